"""What happens to GPU memory, in order: the one type that recordings, tapes and real CUDA snapshots all become.

A `Timeline` holds `allocations` (what was asked for, and what for) and `events` (the order of things). An event names its
allocation by index, so a timeline is cheap to store, to compare and to replay.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, NamedTuple, get_args

Category = Literal[
    "parameters",
    "buffers",
    "gradients",
    "optimizer_states",
    "activations",
    "temporary",
    "kv_cache",
    "inputs",
    "workspace",
]
CATEGORIES: tuple[Category, ...] = get_args(Category)

DEFAULT_STREAM = 0


class EventKind(IntEnum):
    """What an event does. `target` and `value` are the two ints of `Event`."""

    ALLOC = 0
    """target = index of the allocation"""
    FREE = 1
    """target = index of the allocation; the last reference to its storage died"""
    USE_STREAM = 2
    """target = index of the allocation, value = stream: `tensor.record_stream(stream)`"""
    RECORD_EVENT = 3
    """target = id of a CUDA event, value = stream it is recorded on"""
    STREAM_WAIT_EVENT = 4
    """target = id of a CUDA event, value = stream that waits for it"""
    HOST_WAIT_EVENT = 5
    """target = id of a CUDA event; the CPU waits until the GPU has passed it"""
    HOST_WAIT_STREAM = 6
    """value = stream; the CPU waits until it is drained (also `.item()` and blocking copies)"""
    HOST_WAIT_DEVICE = 7
    """the CPU waits for the whole GPU: `torch.cuda.synchronize()`"""
    EMPTY_CACHE = 8
    """`torch.cuda.empty_cache()`"""
    RESET_PEAK = 9
    """`torch.cuda.reset_peak_memory_stats()`"""
    MARK = 10
    """target = index into `Timeline.marks`: a named instant"""


class Event(NamedTuple):
    """One step of a timeline; the meaning of `target` and `value` is that of `kind`."""

    kind: EventKind
    target: int = 0
    value: int = 0


class ScratchCall(NamedTuple):
    """Which buffer of which scratch rule an allocation is: its bytes are `scratch_buffers(rule, dict(arguments))[buffer]`.

    See `vramcast.kernels`.
    """

    rule: str
    arguments: tuple[tuple[str, int | tuple[int, ...]], ...]
    """(name, value) of each; those of one call are one object."""
    buffer: int


@dataclass(slots=True)
class Allocation:
    """One request to the allocator: how many bytes, and what they are for.

    `nbytes` is what the caller asked for (bytes of the storage), before any rounding. `category` may be settled after birth: a block
    is a gradient once it becomes some parameter's `.grad`, an activation once it outlives its forward pass.
    """

    nbytes: int
    stream: int = DEFAULT_STREAM
    category: Category = "temporary"
    phase: str = ""
    """load, forward, backward, recompute, optimizer, zero_grad, prefill, decode, or empty where nothing is known."""
    module: str = ""
    """Qualified path of the module whose forward (or whose backward) asked for it, such as `transformer.h.3.attn`."""
    op: str = ""
    """Operator that asked for it (`addmm`, `native_dropout`); a kernel's scratch buffers bear the name of its operator."""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    scratch: ScratchCall | None = None
    """Where the size comes from, for a buffer inside a kernel."""


@dataclass(slots=True)
class Timeline:
    """Allocations and the order of events on one GPU."""

    allocations: list[Allocation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def alloc(self, allocation: Allocation) -> int:
        """Append an allocation and its event; returns its index, which `free` takes."""
        index = len(self.allocations)
        self.allocations.append(allocation)
        self.events.append(Event(EventKind.ALLOC, index))
        return index

    def free(self, index: int) -> None:
        """Append the death of allocation `index`."""
        self.events.append(Event(EventKind.FREE, index))

    def mark(self, name: str) -> None:
        """Name this instant, such as `after_forward`."""
        self.events.append(Event(EventKind.MARK, len(self.marks)))
        self.marks.append(name)

    def mark_positions(self) -> Iterator[tuple[str, int]]:
        """(name, index of its event) of every mark, in order."""
        for position, event in enumerate(self.events):
            if event.kind is EventKind.MARK:
                yield self.marks[event.target], position

    def live_at(self, position: int) -> list[int]:
        """Indices of the allocations alive right after event `position`, in order of birth."""
        live: dict[int, None] = {}
        for event in self.events[: position + 1]:
            if event.kind is EventKind.ALLOC:
                live[event.target] = None
            elif event.kind is EventKind.FREE:
                live.pop(event.target, None)
        return list(live)
