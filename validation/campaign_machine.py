"""Where a job of the campaign runs: a CUDA GPU, the CPU, or vramcast's virtual GPU, read in the same way."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from vramcast.measure.allocator_readings import (
    allocator_memory,
    allocator_statistics,
    describe_gpu,
    device_used_bytes,
    software_versions,
)

MachineKind = Literal["cuda", "cpu", "virtual"]
MACHINE_KINDS: tuple[MachineKind, ...] = ("cuda", "cpu", "virtual")

_MIB = 1 << 20
_NO_READINGS = dict.fromkeys(("allocated_bytes", "reserved_bytes", "peak_allocated_bytes", "peak_reserved_bytes"))


@dataclass(slots=True)
class Machine:
    """A device to measure on, and its readings; on the CPU those of the CUDA allocator are None, and storages are watched.

    It is also the stage that the loop of `vramcast.record.training_loop` runs on.
    """

    kind: MachineKind
    gpu: str = ""
    """Row of the hardware file that the virtual GPU imitates."""
    expandable_segments: bool = False
    simulator: Any = None
    """The `VirtualGPU`, while it is entered."""
    watch: Any = None
    """The `StorageWatch` of the CPU, while it is entered."""
    marks: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """What else a job has to say."""
    vocab_size: int = 1
    """Tokens are drawn below it."""
    step: int | None = None

    @property
    def device(self) -> str:
        """What the code of a job calls the device."""
        return "cpu" if self.kind == "cpu" else "cuda"

    @property
    def has_allocator(self) -> bool:
        """Whether there is a CUDA caching allocator, real or simulated."""
        return self.kind != "cpu"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What has to surround the code of a job."""
        if self.kind == "cuda":
            yield
        elif self.kind == "cpu":
            with self._storage_watch() as self.watch:
                yield
        else:
            with self._virtual_gpu() as self.simulator:
                yield

    def _storage_watch(self) -> Any:
        # Imported late and by name, here and below: these rooms need pydantic, which a machine with only PyTorch may lack.
        try:
            return importlib.import_module("vramcast.measure.storage_watch").StorageWatch("cpu")
        except ModuleNotFoundError as error:
            self.notes["live"] = f"not measured: {error}"
            return nullcontext()

    def _virtual_gpu(self) -> Any:
        allocator, hardware = (importlib.import_module(f"vramcast.{room}") for room in ("allocator", "hardware"))
        simulator_class = importlib.import_module("vramcast.virtual_cuda").VirtualGPU
        config = allocator.AllocatorConfig(expandable_segments=self.expandable_segments)
        return simulator_class(hardware.find_gpu(self.gpu), allocator_config=config)

    # -- the stage of a loop -------------------------------------------------------------------------------------------

    def begin_step(self, step: int) -> None:
        """Marks that follow are of this optimizer step."""
        self.step = step

    def batch(self, batch_size: int, sequence_length: int) -> torch.Tensor:
        """Random token ids."""
        ids = torch.randint(self.vocab_size, (batch_size, sequence_length)).to(self.device)
        self.set_category(ids, "inputs")
        return ids

    def in_phase(self, name: str) -> AbstractContextManager[None]:
        """Tell what watches, if anything does."""
        watching = self.simulator or self.watch
        phase: AbstractContextManager[None] = nullcontext() if watching is None else watching.in_phase(name)
        return phase

    def end(self, mark: str) -> None:
        """A part of the loop ends here."""
        self.mark(mark)

    def adopt(self, model: Any) -> None:
        """Count a model that was built before; on a GPU its move is seen."""
        if self.watch is not None:
            self.watch.adopt(model)

    def set_category(self, tensor: torch.Tensor, category: str) -> None:
        """Say what a tensor is for, where somebody keeps account."""
        if self.watch is not None:
            self.watch.set_category(tensor, category)

    # -- readings ------------------------------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait for the device; errors of its kernels are raised here."""
        if self.has_allocator:
            torch.cuda.synchronize()

    def memory(self) -> dict[str, int | None]:
        """Bytes now and the peaks so far."""
        return {**_NO_READINGS, **(allocator_memory() if self.has_allocator else {})}

    def mark(self, name: str) -> None:
        """Keep the readings of this instant."""
        if self.watch is not None:
            self.watch.mark(name)
        self.marks.append(
            {"name": name, "step": self.step, **self.memory(), "device_used_bytes": self.device_used_bytes()}
        )

    def device_used_bytes(self) -> int | None:
        """What the whole device holds by the driver's count, all processes together."""
        return device_used_bytes() if self.has_allocator else None

    def readings(self) -> dict[str, Any]:
        """Everything that is read at the end of a job."""
        peaks = self.memory()
        readings = {
            "peak_allocated_bytes": peaks["peak_allocated_bytes"],
            "peak_reserved_bytes": peaks["peak_reserved_bytes"],
            "device_used_bytes": self.device_used_bytes(),
            "process_used_bytes": process_used_bytes() if self.kind == "cuda" else None,
            "marks": self.marks,
            "notes": self.notes,
            "memory_stats": allocator_statistics() if self.has_allocator else {},
        }
        if self.watch is not None:
            live_readings = importlib.import_module("vramcast.measure.live").live_readings
            readings["live"] = live_readings(self.watch.timeline).to_dict()
        return readings

    def describe(self) -> dict[str, Any]:
        """The `versions` and `gpu` of a record."""
        with self._virtual_gpu() if self.kind == "virtual" else nullcontext():
            return {"versions": software_versions(has_cuda=self.kind == "cuda"), "gpu": self._gpu()}

    def _gpu(self) -> dict[str, Any]:
        if not self.has_allocator:
            return {"name": "cpu", "kind": self.kind}
        return {**describe_gpu(), "kind": self.kind, "driver": _driver_version() if self.kind == "cuda" else ""}


def process_used_bytes() -> int | None:
    """Device memory of this process by the driver's count; None where it does not tell.

    In a container it counts processes by other numbers: then a single process tells all the same, unless it has less
    than this one's allocator holds.
    """
    queries = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    rows = [line.split(", ") for line in _nvidia_smi(queries)]
    own = [used for pid, used in rows if pid == str(os.getpid()) or len(rows) == 1]
    if not own or not own[0].isdigit():
        return None
    used = int(own[0]) * _MIB
    return used if used >= torch.cuda.memory_reserved() else None


def driver_used_bytes() -> int | None:
    """What the device holds by nvidia-smi, which is asked without making a CUDA context."""
    answer = _nvidia_smi(["--query-gpu=memory.used", "--format=csv,noheader,nounits"])
    return int(answer[0]) * _MIB if answer and answer[0].isdigit() else None


def _nvidia_smi(arguments: list[str]) -> list[str]:
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = ["nvidia-smi", f"--id={gpu}", *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _driver_version() -> str:
    answer = _nvidia_smi(["--query-gpu=driver_version", "--format=csv,noheader"])
    return answer[0] if answer else ""
