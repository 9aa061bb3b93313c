"""What replays the steps of a generation one by one, and `CachingAllocator` doing so."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vramcast.allocator.blocks import Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.replay import MarkReading
from vramcast.errors import InputError
from vramcast.timeline import EventKind
from vramcast.timeline.decode import StepTemplate


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one step came to."""

    num_events: int
    """Events of the template that were replayed; fewer than there are where memory ran out."""
    highest_bytes: int
    """Most bytes allocated after one of its allocations."""
    peak_position: int | None
    """Event at which the allocated peak was reached anew; None where it was not."""
    block_sizes: Sequence[int]
    """Bytes of the blocks of the step's own allocations, as far as they were made; empty where no peak was reached."""
    error: AllocatorOutOfMemory | None = None


class StepStatistics(NamedTuple):
    """Peaks in bytes, since the start of the recorded head."""

    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_reserved_bytes: int
    num_alloc_retries: int


class StepEngine(ABC):
    """An allocator, and the blocks that are carried from one step to the next, by place."""

    @abstractmethod
    def play(self, template: StepTemplate, sizes: Sequence[int]) -> StepOutcome:
        """Replay one step with these bytes for its allocations; its survivors become the state."""

    @abstractmethod
    def state_sizes(self) -> list[int]:
        """Block bytes of the state; 0 where a tensor has no bytes."""

    @abstractmethod
    def fingerprint(self) -> object:
        """Everything that decides how the allocator will answer; equal only where all answers will be."""

    @abstractmethod
    def reading(self, name: str, position: int, interval_peak_bytes: int) -> MarkReading:
        """The allocator as it is now."""

    @property
    @abstractmethod
    def statistics(self) -> StepStatistics:
        """What the allocator has counted since the start."""


class FullStepEngine(StepEngine):
    """Steps through `CachingAllocator`: every setting, any number of streams."""

    def __init__(self, allocator: CachingAllocator, state: Sequence[Block | None]) -> None:
        self._allocator = allocator
        self._state = list(state)

    def play(self, template: StepTemplate, sizes: Sequence[int]) -> StepOutcome:
        """See `StepEngine`."""
        malloc, free, counts = self._allocator.malloc, self._allocator.free, self._allocator.statistics.all
        streams = [allocation.first.stream for allocation in template.allocations]
        state, born = self._state, list[Block | None]()
        block_sizes: list[int] = []
        highest, peak, reached = counts.allocated_bytes, counts.allocated_bytes_peak, None
        position = 0
        for kind, place, value in template.events:
            if kind == 0:  # ALLOC
                try:
                    block = malloc(sizes[place], streams[place])
                except AllocatorOutOfMemory as error:
                    return StepOutcome(position, highest, reached, block_sizes, error)
                born.append(block)
                block_sizes.append(0 if block is None else block.size)
                if counts.allocated_bytes > highest:
                    highest = counts.allocated_bytes
                    if highest > peak:
                        peak, reached = highest, position
            elif kind == 1:  # FREE
                free(born[place] if place >= 0 else state[~place])
            else:
                self._apply(kind, place, value, born)
            position += 1
        self._state = [born[place] if place >= 0 else state[~place] for place in template.survivors]
        return StepOutcome(position, highest, reached, block_sizes)

    def _apply(self, kind: int, place: int, value: int, born: Sequence[Block | None]) -> None:
        """The waits that a generation on one stream makes."""
        match kind:
            case EventKind.HOST_WAIT_STREAM:
                self._allocator.host_wait_stream(value)
            case EventKind.HOST_WAIT_DEVICE:
                self._allocator.synchronize()
            case EventKind.USE_STREAM:
                self._allocator.record_stream(born[place] if place >= 0 else self._state[~place], value)
            case _:
                raise InputError("events", kind, "this kind of event is not expected inside a decode step")

    def state_sizes(self) -> list[int]:
        """See `StepEngine`."""
        return [0 if block is None else block.size for block in self._state]

    def fingerprint(self) -> object:
        """Its blocks, and which of them the state holds."""
        blocks = []
        for head in self._allocator.driver.heads.values():
            block: Block | None = head
            while block is not None:
                blocks.append((block.address, block.size, block.state))
                block = block.next
        return tuple(block and block.address for block in self._state), blocks

    def reading(self, name: str, position: int, interval_peak_bytes: int) -> MarkReading:
        """See `StepEngine`."""
        return MarkReading.of(name, position, self._allocator, interval_peak_bytes)

    @property
    def statistics(self) -> StepStatistics:
        """See `StepEngine`."""
        counts = self._allocator.statistics.all
        return StepStatistics(
            counts.allocated_bytes_peak,
            counts.active_bytes_peak,
            counts.reserved_bytes_peak,
            self._allocator.statistics.num_alloc_retries,
        )
