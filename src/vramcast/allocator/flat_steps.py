"""Decode steps through the flat allocator, which starts from a copy of the blocks that the recorded head left behind."""

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from vramcast.allocator.blocks import MIN_BLOCK, Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.flat_allocator import FlatAllocator, Requests
from vramcast.allocator.flat_segments import FullSimulationNeeded
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.plain_replay import EVENTS_WITHOUT_EFFECT, flat_allocator, flat_reading
from vramcast.allocator.replay import MarkReading
from vramcast.allocator.step_engines import StepEngine, StepOutcome, StepStatistics
from vramcast.timeline.decode import DecodeExtension, StepTemplate


class _PlainStep(NamedTuple):
    """A template as plain events: its own allocations come first, then the state."""

    events: list[int]
    positions: list[int]
    """Where each event is in the template."""

    @classmethod
    def of(cls, template: StepTemplate) -> "_PlainStep":
        own = len(template.allocations)
        events, positions = [], []
        for position, (kind, place, _) in enumerate(template.events):
            index = place if place >= 0 else own + ~place
            if kind <= 1:  # ALLOC, FREE
                events.append(index if kind == 0 else ~index)
                positions.append(position)
        return cls(events, positions)


class FlatStepEngine(StepEngine):
    """Steps of one stream through `FlatAllocator`."""

    def __init__(self, allocator: FlatAllocator, starts: Sequence[int | None], blocks: Sequence[int]) -> None:
        self._allocator = allocator
        self._starts, self._blocks = list(starts), list(blocks)
        self._plain: dict[int, _PlainStep] = {}

    @classmethod
    def copy_of(
        cls, allocator: CachingAllocator, state: Sequence[Block | None], decode: DecodeExtension
    ) -> "FlatStepEngine | None":
        """Goes on where `allocator` stands, which is left alone; None where only `CachingAllocator` can."""
        if not _is_plain(allocator, decode):
            return None
        counts, driver = allocator.statistics.all, allocator.driver
        largest = max(_largest_request(decode), counts.reserved_bytes)
        flat = flat_allocator(allocator.config, driver.capacity, decode.num_events + 1, largest)
        if flat is None:
            return None
        starts: dict[Block, int] = {}
        try:
            for address in sorted(driver.heads):
                flat.adopt(driver.heads[address], starts)
        except FullSimulationNeeded:
            return None
        flat.units_allocated = counts.allocated_bytes // MIN_BLOCK
        flat.peak_units = counts.allocated_bytes_peak // MIN_BLOCK
        flat.reserved_bytes, flat.peak_reserved_bytes = counts.reserved_bytes, counts.reserved_bytes_peak
        flat.num_alloc_retries = allocator.statistics.num_alloc_retries
        sizes = [0 if block is None else block.size // MIN_BLOCK for block in state]
        return cls(flat, [0 if block is None else starts[block] for block in state], sizes)

    def play(self, template: StepTemplate, sizes: Sequence[int]) -> StepOutcome:
        """See `StepEngine`."""
        plain = self._plain.get(id(template))
        if plain is None:
            plain = self._plain[id(template)] = _PlainStep.of(template)
        allocator, own = self._allocator, len(sizes)
        starts: list[int | None] = [*repeat(None, own), *self._starts]
        blocks = [0] * own + self._blocks
        first, peak = allocator.num_events, allocator.peak_units
        num_events, error = len(template.events), None
        allocator.blocks_made.clear()
        try:
            allocator.run(plain.events, Requests.of(sizes), starts, blocks)
        except AllocatorOutOfMemory as failure:
            num_events, error = plain.positions[allocator.num_events - 1 - first], failure
        reached, made = None, list[int]()
        if allocator.peak_units > peak:
            reached = plain.positions[allocator.peak_position - first]
            made = [units * MIN_BLOCK for units in blocks[:own]]
        if error is None:
            places = [place if place >= 0 else own + ~place for place in template.survivors]
            self._starts, self._blocks = [starts[place] for place in places], [blocks[place] for place in places]
        return StepOutcome(num_events, allocator.interval_peak_bytes, reached, made, error)

    def state_sizes(self) -> list[int]:
        """See `StepEngine`."""
        return [units * MIN_BLOCK for units in self._blocks]

    def fingerprint(self) -> object:
        """The free blocks and those of the state, and what is reserved; all other blocks stay as they are."""
        flat = self._allocator
        return tuple(self._starts), tuple(self._blocks), tuple(flat.small), tuple(flat.large), flat.reserved_bytes

    def reading(self, name: str, position: int, interval_peak_bytes: int) -> MarkReading:
        """See `StepEngine`."""
        return flat_reading(self._allocator, name, position, interval_peak_bytes)

    @property
    def statistics(self) -> StepStatistics:
        """See `StepEngine`."""
        flat = self._allocator
        peak = flat.peak_allocated_bytes
        return StepStatistics(peak, peak, flat.peak_reserved_bytes, flat.num_alloc_retries)


def _templates(decode: DecodeExtension) -> list[StepTemplate]:
    return [*(template for segment in decode.segments for template in segment.templates), decode.tail]


def _is_plain(allocator: CachingAllocator, decode: DecodeExtension) -> bool:
    """One stream, nothing pending, and steps that allocate, free and wait only."""
    templates = _templates(decode)
    streams = allocator.streams | {a.first.stream for template in templates for a in template.allocations}
    counts = allocator.statistics.all
    return (
        len(streams) <= 1
        and not allocator.has_other_uses
        and counts.active_bytes_peak == counts.allocated_bytes_peak
        and all(kind <= 1 or kind in EVENTS_WITHOUT_EFFECT for template in templates for kind, *_ in template.events)
    )


def _largest_request(decode: DecodeExtension) -> int:
    ends = (template.sizes(repetition) for template in _templates(decode) for repetition in (0, decode.num_steps))
    return max((max(sizes, default=0) for sizes in ends), default=0)
