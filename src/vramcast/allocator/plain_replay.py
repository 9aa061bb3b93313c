"""Replay of one stream's allocations and frees, given as plain lists of ints: the fast way to ask for peaks.

The answer is that of `Replayer` in every field. PyTorch's default settings, with a capacity or without, and expandable
segments take the flat allocator; every other setting takes `CachingAllocator`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

from vramcast.allocator.blocks import MIN_BLOCK
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import UNLIMITED, AllocatorConfig
from vramcast.allocator.flat_allocator import MOST_UNITS, FlatAllocator, Requests
from vramcast.allocator.flat_segments import FlatExpandableAllocator, FlatNativeAllocator, FullSimulationNeeded
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.replay import FailedAllocation, MarkReading, Replayer, ReplayResult
from vramcast.errors import InputError
from vramcast.timeline import Allocation, Event, EventKind, Timeline

Marks = Sequence[tuple[int, str]]
"""(number of events before it, name) of every mark, in order."""

_MOST_BYTES = MOST_UNITS * MIN_BLOCK
EVENTS_WITHOUT_EFFECT = frozenset(
    {
        EventKind.RECORD_EVENT,
        EventKind.STREAM_WAIT_EVENT,
        EventKind.HOST_WAIT_EVENT,
        EventKind.HOST_WAIT_STREAM,
        EventKind.HOST_WAIT_DEVICE,
    }
)
"""Waits complete frees of blocks that another stream used; on one stream there are none."""


class PlainTimeline(NamedTuple):
    """What `replay_plain` takes: the sizes, events and marks of its arguments."""

    sizes: list[int]
    events: list[int]
    marks: list[tuple[int, str]]

    @classmethod
    def of(cls, timeline: Timeline) -> Self | None:
        """The lists of a timeline; None where it uses a second stream, empties the cache or resets the peaks."""
        if len({allocation.stream for allocation in timeline.allocations}) > 1:
            return None
        events: list[int] = []
        marks = []
        for kind, target, _ in timeline.events:
            if kind == 0:  # ALLOC
                events.append(target)
            elif kind == 1:  # FREE
                events.append(~target)
            elif kind == EventKind.MARK:
                marks.append((len(events), timeline.marks[target]))
            elif kind not in EVENTS_WITHOUT_EFFECT:
                return None
        return cls([allocation.nbytes for allocation in timeline.allocations], events, marks)


def replay_plain(
    sizes: Sequence[int],
    events: Sequence[int],
    marks: Marks = (),
    config: AllocatorConfig | None = None,
    capacity_bytes: int | None = None,
) -> ReplayResult:
    """Replay allocations and frees through a fresh allocator.

    Args:
        sizes: bytes of each allocation; one of 0 bytes never reaches the allocator.
        events: index i (0, 1, ...) where allocation i is made, ~i where it is freed.
        marks: instants to read; in order.
        config: settings of the allocator; PyTorch's defaults if not given.
        capacity_bytes: bytes the allocator may reserve; None = no limit. The replay ends at the first request that
            finds no memory.

    Returns:
        What `Replayer` says of the same events. Positions count `events`; that of a mark is the number before it.

    Raises:
        InputError: a negative size; an index that `sizes` does not have; an allocation made while it is alive, or
            freed while it is not; marks out of order.
    """
    config = AllocatorConfig() if config is None else config
    _check(sizes, events, marks)
    allocator = flat_allocator(config, capacity_bytes, len(events), max(sizes, default=0))
    if allocator is not None:
        try:
            return _replay_flat(allocator, sizes, events, marks)
        except FullSimulationNeeded:
            pass
    return _replay_full(sizes, events, marks, config, capacity_bytes)


def flat_allocator(
    config: AllocatorConfig, capacity_bytes: int | None, num_requests: int, largest_request_bytes: int
) -> FlatAllocator | None:
    """The flat allocator for these settings and at most so many requests; None where only `CachingAllocator` will do."""
    handled = (
        config.max_split_size == UNLIMITED
        and max(config.roundup_power2_divisions) <= 1
        and config.per_process_memory_fraction >= 1.0
        and (capacity_bytes is None or 0 < capacity_bytes < _MOST_BYTES // 2)
        # Each request takes one segment at most.
        and num_requests * (largest_request_bytes + 2 * config.large_segment_size) < _MOST_BYTES
    )
    if not handled:
        return None
    return (FlatExpandableAllocator if config.expandable_segments else FlatNativeAllocator)(config, capacity_bytes)


def flat_reading(allocator: FlatAllocator, name: str, position: int, interval_peak_bytes: int) -> MarkReading:
    """The allocator as it is now; without a second stream, what is active is what is allocated."""
    return MarkReading(
        name=name,
        position=position,
        allocated_bytes=allocator.allocated_bytes,
        active_bytes=allocator.allocated_bytes,
        reserved_bytes=allocator.reserved_bytes,
        peak_allocated_bytes=allocator.peak_allocated_bytes,
        peak_active_bytes=allocator.peak_allocated_bytes,
        peak_reserved_bytes=allocator.peak_reserved_bytes,
        interval_peak_allocated_bytes=interval_peak_bytes,
    )


def _check(sizes: Sequence[int], events: Sequence[int], marks: Marks) -> None:
    least = min(sizes, default=0)
    if least < 0:
        raise InputError("sizes", least, "a request cannot be smaller than 0 bytes")
    first, last = min(events, default=0), max(events, default=-1)
    if last >= len(sizes) or ~first >= len(sizes):
        raise InputError("events", last if last >= len(sizes) else first, f"there are {len(sizes)} allocations")
    positions = [0, *(position for position, _ in marks), len(events)]
    for before, after in pairwise(positions):
        if before > after:
            raise InputError("marks", after, f"positions must grow from 0 to the number of events, {len(events)}")


def _replay_flat(allocator: FlatAllocator, sizes: Sequence[int], events: Sequence[int], marks: Marks) -> ReplayResult:
    requests = Requests.of(sizes)
    starts: list[int | None] = [None] * len(sizes)
    blocks = [0] * len(sizes)
    readings: list[MarkReading] = []
    failures: list[FailedAllocation] = []
    begin = 0
    try:
        for position, name in marks:
            allocator.run(events[begin:position], requests, starts, blocks)
            readings.append(flat_reading(allocator, name, allocator.num_events, allocator.interval_peak_bytes))
            begin = position
        allocator.run(events[begin:], requests, starts, blocks)
    except AllocatorOutOfMemory as error:
        position = allocator.num_events - 1
        failures.append(FailedAllocation(position, events[position], error))
    return ReplayResult(
        peak_allocated_bytes=allocator.peak_allocated_bytes,
        peak_active_bytes=allocator.peak_allocated_bytes,
        peak_reserved_bytes=allocator.peak_reserved_bytes,
        peak_allocated_position=allocator.peak_position,
        peak_reserved_position=allocator.peak_reserved_position,
        allocated_bytes=allocator.allocated_bytes,
        reserved_bytes=allocator.reserved_bytes,
        num_events=allocator.num_events,
        num_alloc_retries=allocator.num_alloc_retries,
        marks=tuple(readings),
        out_of_memory=tuple(failures),
        live_at_peak=_live_at_peak(events[: allocator.peak_position + 1], allocator.blocks_made),
    )


def _live_at_peak(events: Sequence[int], blocks_made: Sequence[int]) -> dict[int, int]:
    live: dict[int, int] = {}
    made = iter(blocks_made)
    for index in events:
        if index >= 0:
            live[index] = next(made, 0)  # 0: the request that ended the replay
        else:
            del live[~index]
    return {index: units * MIN_BLOCK for index, units in live.items() if units}


def _replay_full(
    sizes: Sequence[int], events: Sequence[int], marks: Marks, config: AllocatorConfig, capacity_bytes: int | None
) -> ReplayResult:
    allocator = CachingAllocator(config, capacity_bytes)
    replayer = Replayer([Allocation(size) for size in sizes], allocator=allocator)
    triples = [Event(EventKind.ALLOC, index) if index >= 0 else Event(EventKind.FREE, ~index) for index in events]
    begin = 0
    for position, name in marks:
        replayer.feed(triples[begin:position])
        replayer.mark(name)
        begin = position
    replayer.feed(triples[begin:])
    return replayer.result()
