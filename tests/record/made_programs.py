"""Made-up training programs of any number of layers, as recordings: lives of every kind that layers of real models have."""

from dataclasses import dataclass
from typing import Literal

from vramcast.timeline import Allocation, Category, Event, EventKind, Operator, OperatorTable, Recording, Timeline

Death = Literal["at once", "next layer", "second next layer", "backward", "backward of the layer before", "end of step"]
DEATHS: tuple[Death, ...] = (
    "at once",
    "next layer",
    "second next layer",
    "backward",
    "backward of the layer before",
    "end of step",
)


@dataclass(frozen=True)
class Tensor:
    """One that every layer makes in its forward."""

    letters: str
    death: Death


@dataclass(frozen=True)
class Program:
    """A model with equal layers; gradients live to the end of the step, states to the end of the program."""

    tensors: tuple[Tensor, ...]
    states: int = 1
    waits: bool = True

    def run(self, values: dict[str, int], layers: int) -> Recording:
        """Three optimizer steps."""
        return _Run(self, values, layers).recording()


class _Run:
    def __init__(self, program: Program, values: dict[str, int], layers: int) -> None:
        self._program, self._values, self._layers = program, values, layers
        self._timeline = Timeline()
        self._pending: dict[tuple[str, int], list[int]] = {}

    def recording(self) -> Recording:
        for layer in range(self._layers):
            self._make("EF", "parameters", "load", layer)
        self._timeline.mark("after_load")
        for step in range(3):
            self._step(step)
        operator = Operator("mm", "matmul", "forward", "layers.0", "float32", (self._values["B"],), calls=self._layers)
        empty = OperatorTable(())
        return Recording(
            timeline=self._timeline,
            parameters=self._layers * self._values["E"] * self._values["F"],
            flops_per_step=0,
            kernels={"mm": 5 + 2 * self._layers},
            versions={"torch": "2.13.0"},
            section_operators=[OperatorTable.of([operator]), empty, empty, empty],
        )

    def _step(self, step: int) -> None:
        for layer in range(self._layers):
            self._forward(layer)
        self._free("forward", self._layers)
        self._free("forward", self._layers + 1)
        loss = self._make("B", "temporary", "forward")
        self._timeline.mark("after_forward")
        if self._program.waits:
            self._timeline.events.append(Event(EventKind.HOST_WAIT_STREAM))
        self._timeline.free(loss)
        for layer in reversed(range(self._layers)):
            self._later("end", 0, self._make("EF", "gradients", "backward", layer))
            self._free("backward", layer)
        self._free("backward", -1)
        self._timeline.mark("after_backward")
        for layer in range(self._layers if step == 0 else 0):
            for _ in range(self._program.states):
                self._make("EF", "optimizer_states", "optimizer", layer)
        self._timeline.mark("after_optimizer")
        self._free("end", 0)
        self._timeline.mark("after_step")

    def _forward(self, layer: int) -> None:
        for number, tensor in enumerate(self._program.tensors):
            index = self._make(tensor.letters, "activations", "forward", layer, f"operator {number}")
            match tensor.death:
                case "at once":
                    self._timeline.free(index)
                case "next layer":
                    self._later("forward", layer + 1, index)
                case "second next layer":
                    self._later("forward", layer + 2, index)
                case "backward":
                    self._later("backward", layer, index)
                case "backward of the layer before":
                    self._later("backward", layer - 1, index)
                case "end of step":
                    self._later("end", 0, index)
        self._free("forward", layer)

    def _make(self, letters: str, category: Category, phase: str, layer: int | None = None, op: str = "made") -> int:
        shape = tuple(self._values[letter] for letter in letters)
        nbytes = 4
        for extent in shape:
            nbytes *= extent
        module = "head" if layer is None else f"model.layers.{layer}.part"
        return self._timeline.alloc(Allocation(nbytes, 0, category, phase, module, op, "float32", shape))

    def _later(self, when: str, layer: int, index: int) -> None:
        self._pending.setdefault((when, layer), []).append(index)

    def _free(self, when: str, layer: int) -> None:
        for index in self._pending.pop((when, layer), []):
            self._timeline.free(index)
