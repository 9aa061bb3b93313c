"""The tape: one recorded job as ordered sections of allocations and frees, every size a formula, layers folded into loops.

A `Section` is what happens between two marks (loading, one forward, one backward, one optimizer step, one zero_grad). It is a
list of segments: a plain one runs once, a loop once for each repetition of the model's layer pattern. A row is an allocation, the
death of one, or another event. A death names the allocation by place: which section, segment and row, and for a loop which
repetition as `sign x own repetition + from_end x (repetitions - 1) + offset`; a repetition just before the first or after the
last means the plain rows beside the loop, which have the same layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vramcast.kernels import AttentionChoice
from vramcast.tapes.expressions import Expression
from vramcast.timeline import Category

FORMAT_VERSION = 1

RECORDED_MICRO_BATCHES = 4
"""With gradient accumulation: first, second, third, and a fourth that must be like the third."""


class Place(NamedTuple):
    """Where a repetition-dependent whole number comes from: `sign x j + from_end x (n - 1) + offset` for repetition j of n."""

    sign: int
    from_end: int
    offset: int

    def at(self, repetition: Any, repetitions: Any) -> Any:
        """The number."""
        return self.sign * repetition + self.from_end * (repetitions - 1) + self.offset


class ScratchSize(NamedTuple):
    """A buffer whose size is told by a rule of `vramcast.kernels`, evaluated when numbers are known."""

    rule: str
    arguments: tuple[tuple[str, tuple[Expression, ...]], ...]
    """Name and value; more than one expression where the rule takes several numbers."""
    buffer: int


Size = Expression | ScratchSize


class Label(NamedTuple):
    """What an allocation is for; see `vramcast.timeline.Allocation`."""

    op: str
    module: str
    """The layer's number is written `*`."""
    phase: str
    category: Category
    dtype: str
    shape: tuple[Expression, ...]
    stream: int = 0


class AllocRow(NamedTuple):
    """An allocation."""

    size: int
    """Index into `Tape.sizes`."""
    label: int
    """Index into `Tape.labels`."""
    layer: Place | None
    """Which layer it belongs to, counted in layers; None outside of any."""


class FreeRow(NamedTuple):
    """The death of an allocation."""

    section: str
    """`own`; `back k`: k sections before; `load`; `start i`: section i of this optimizer step; `previous i`: of the step before;
    `at i`: section i of all."""
    segment: int
    row: int
    repetition: Place


class OtherRow(NamedTuple):
    """Any other event, as in `vramcast.timeline.Event`."""

    kind: int
    value: int


Row = AllocRow | FreeRow | OtherRow


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that run once, or once for every repetition of the layer pattern."""

    repetitions: int | None
    """None: once. Otherwise the number of repetitions is that of the model plus this."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class TapeOperator:
    """Equal calls of one operator in a section; see `vramcast.timeline.Operator`."""

    name: str
    kind: str
    phase: str
    module: str
    dtype: str
    extents: tuple[Expression, ...]
    flops: Expression
    reads: tuple[Expression, ...]
    writes: tuple[Expression, ...]
    calls: tuple[int, int]
    """(a, b): a + b x repetitions of the layer pattern."""


@dataclass(frozen=True, slots=True)
class Section:
    """What happens between two marks."""

    mark: str
    """The mark that ends it."""
    segments: tuple[Segment, ...]
    operators: tuple[TapeOperator, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """Order of sections, as indices into `Tape.sections`."""

    load: int
    first: tuple[int, ...]
    """The first optimizer step: forward and backward of each micro batch, the optimizer's step, zero_grad."""
    steady: tuple[int, ...]
    """Every later one."""
    repeated: tuple[int, int] | None = None
    """With gradient accumulation: the slice of a step that stands for the third and every further micro batch."""
    tail: int | None = None
    """Of a generation, where `first` is the prefill and the first decode steps and `steady` a later one: what follows the last."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition on the dimensions under which the program takes the path that was recorded."""

    kind: str
    """`equal` / `above` / `below` a number, `multiple` / `not multiple` of it, `at most` / `less than` another dimension ..."""
    left: Expression
    right: Expression

    def holds(self, values: Any) -> bool:
        """Whether it holds at these dimensions."""
        return bool(_CONDITIONS[self.kind](self.left.value(values), self.right.value(values)))

    def __str__(self) -> str:
        return f"{self.left} {self.kind} {self.right}"


_CONDITIONS: dict[str, Any] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "multiple of": lambda left, right: left % right == 0,
    "no multiple of": lambda left, right: left % right != 0,
}
GUARD_KINDS = tuple(_CONDITIONS)


@dataclass(frozen=True, slots=True)
class AttentionGuard:
    """A decision of `scaled_dot_product_attention` that must come out as recorded."""

    choice: AttentionChoice
    """With sizes as recorded; only what is no size counts."""
    sizes: tuple[tuple[str, Expression], ...]
    """Field of `AttentionCall` -> its formula."""


@dataclass(frozen=True, slots=True)
class Tape:
    """One recorded job; plain data, read and written by `vramcast.tapes.format`."""

    key: dict[str, Any]
    """What was recorded: workload, structure of the model, settings."""
    versions: dict[str, str]
    sizes: tuple[Size, ...]
    labels: tuple[Label, ...]
    sections: tuple[Section, ...]
    program: Program
    guards: tuple[Guard, ...]
    attention: tuple[AttentionGuard, ...] = ()
    layers_per_repetition: int = 1
    layers_left_over: int = 0
    """Layers beyond a whole number of repetitions."""
    min_layers: int = 1
    """Fewer layers take another path."""
    max_layers: int | None = None
    parameter_tensors: tuple[int, int] = (0, 0)
    """(a, b): a + b x repetitions."""
    kernels: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Kernel -> calls in the recorded steps, as (a, b)."""
    assumptions: tuple[str, ...] = ()
    certified: tuple[dict[str, int], ...] = ()
    """Dimensions at which a direct trace agreed event by event."""

    @property
    def fewest_repetitions(self) -> int:
        """Repetitions of the layer pattern below which some loop would run less than no times."""
        loops = (segment.repetitions for section in self.sections for segment in section.segments)
        return max((-more for more in loops if more is not None), default=0)

    def repetitions(self, layers: int) -> int:
        """How often the layer pattern repeats in a model of so many layers."""
        return (layers - self.layers_left_over) // self.layers_per_repetition
