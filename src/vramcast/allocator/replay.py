"""Replay of a timeline through the simulated allocator: its peaks, where they are, and readings at its marks."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from vramcast.allocator.blocks import Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import AllocatorConfig
from vramcast.allocator.deferred_frees import DeferredFree
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.errors import InputError
from vramcast.timeline import Allocation, EventKind, Timeline

Events = Sequence[tuple[int, int, int]]
"""(kind, target, value) triples, such as `Timeline.events`."""


@dataclass(frozen=True, slots=True)
class MarkReading:
    """The allocator at a named instant; peaks are those since the start or the last reset, `interval_*` those since the mark before."""

    name: str
    position: int
    allocated_bytes: int
    active_bytes: int
    reserved_bytes: int
    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_reserved_bytes: int
    interval_peak_allocated_bytes: int

    @classmethod
    def of(cls, name: str, position: int, allocator: CachingAllocator, interval_peak: int) -> "MarkReading":
        """The allocator as it is now."""
        counts = allocator.statistics.all
        return cls(
            name=name,
            position=position,
            allocated_bytes=counts.allocated_bytes,
            active_bytes=counts.active_bytes,
            reserved_bytes=counts.reserved_bytes,
            peak_allocated_bytes=counts.allocated_bytes_peak,
            peak_active_bytes=counts.active_bytes_peak,
            peak_reserved_bytes=counts.reserved_bytes_peak,
            interval_peak_allocated_bytes=interval_peak,
        )


@dataclass(frozen=True, slots=True)
class FailedAllocation:
    """A request that found no memory."""

    position: int
    allocation: int
    error: AllocatorOutOfMemory


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay came to. Bytes; positions count events from 0 over everything that was fed.

    Peaks are those since the start or the last `RESET_PEAK`, as `torch.cuda.max_memory_allocated()` and its siblings
    would report them at the end; a position is that of the first event at which the peak is reached.
    """

    peak_allocated_bytes: int
    peak_active_bytes: int
    peak_reserved_bytes: int
    peak_allocated_position: int
    peak_reserved_position: int
    allocated_bytes: int
    reserved_bytes: int
    num_events: int
    num_alloc_retries: int
    marks: tuple[MarkReading, ...] = ()
    out_of_memory: tuple[FailedAllocation, ...] = ()
    """Requests that failed: the last event replayed, or, with `keep_going`, each of them in order."""
    live_at_peak: dict[int, int] = field(default_factory=dict)
    """Block bytes of every allocation alive at the allocated peak, by index, in order of birth; they sum to
    `peak_allocated_bytes`."""


class Replayer:
    """A replay that can be fed in pieces: a prefix once, then the events of a repeated step as often as wanted.

    Args:
        allocations: what the `target` of an ALLOC event points into; may grow between two calls of `feed`.
        marks: names that MARK events point into.
        allocator: replays into this allocator; None = a fresh one with PyTorch's defaults and no limit.
        keep_going: treat a failed request as one of 0 bytes and go on; by default the replay stops there.
        track_live: note block sizes, so that the result can say what was alive at the peak; off saves a few percent
            of time.
    """

    def __init__(
        self,
        allocations: Sequence[Allocation],
        marks: Sequence[str] = (),
        *,
        allocator: CachingAllocator | None = None,
        keep_going: bool = False,
        track_live: bool = True,
    ) -> None:
        self.allocator = CachingAllocator() if allocator is None else allocator
        self.blocks: dict[int, Block | None] = {}
        """Blocks of the live allocations, by index; None for those of 0 bytes."""
        self._allocations, self._marks = allocations, marks
        self._keep_going, self._track_live = keep_going, track_live
        self._sizes: list[int] = []
        self._streams: list[int] = []
        self._position = 0
        self._peak_allocated = self._peak_reserved = 0
        self._peak_allocated_position = self._peak_reserved_position = 0
        self._interval_peak = 0
        self._readings: list[MarkReading] = []
        self._failures: list[FailedAllocation] = []
        self._fed: list[Events] = []
        self._handed_out = array("q")

    def feed(self, events: Events) -> bool:
        """Replay more events; False once a request failed and the replay does not keep going.

        Raises:
            InputError: an allocation is made while it is alive, or freed or used while it is not.
        """
        if self.stopped:
            return False
        for allocation in self._allocations[len(self._sizes) :]:
            self._sizes.append(allocation.nbytes)
            self._streams.append(allocation.stream)
        if self._track_live:
            self._fed.append(events)
        try:
            self._replay(events)
        except KeyError as error:
            raise InputError("events", error.args[0], "freed or used while it is not alive") from None
        return not self.stopped

    def mark(self, name: str) -> None:
        """Read the allocator now, as a MARK event does, without counting an event."""
        if not self.stopped:
            self._read(name, self._position)

    @property
    def stopped(self) -> bool:
        """Whether a failed request ended the replay."""
        return bool(self._failures) and not self._keep_going

    def _replay(self, events: Events) -> None:
        blocks, sizes, streams = self.blocks, self._sizes, self._streams
        malloc, free, counts = self.allocator.malloc, self.allocator.free, self.allocator.statistics.all
        note_size = self._handed_out.append if self._track_live else None
        position, peak_allocated, peak_reserved = self._position, self._peak_allocated, self._peak_reserved
        interval_peak = self._interval_peak
        for kind, target, value in events:
            if kind == 0:  # ALLOC
                if target in blocks:
                    raise InputError(
                        "events", target, f"allocation is made again at event {position} while it is alive"
                    )
                try:
                    blocks[target] = block = malloc(sizes[target], streams[target])
                except AllocatorOutOfMemory as error:
                    blocks[target] = block = None
                    self._failures.append(FailedAllocation(position, target, error))
                    if not self._keep_going:
                        position += 1
                        break
                if note_size is not None:
                    note_size(0 if block is None else block.size)
                if counts.allocated_bytes > interval_peak:
                    interval_peak = counts.allocated_bytes
                if counts.allocated_bytes_peak > peak_allocated:
                    peak_allocated = counts.allocated_bytes_peak
                    self._peak_allocated_position = position
                if counts.reserved_bytes_peak > peak_reserved:
                    peak_reserved = counts.reserved_bytes_peak
                    self._peak_reserved_position = position
            elif kind == 1:  # FREE
                free(blocks.pop(target))
            else:
                self._interval_peak = interval_peak
                self._apply(kind, target, value, position)
                interval_peak = self._interval_peak
                peak_allocated, peak_reserved = counts.allocated_bytes_peak, counts.reserved_bytes_peak
            position += 1
        self._position, self._peak_allocated, self._peak_reserved = position, peak_allocated, peak_reserved
        self._interval_peak = interval_peak

    def _apply(self, kind: int, target: int, value: int, position: int) -> None:
        """Every event but ALLOC and FREE."""
        allocator = self.allocator
        match kind:
            case EventKind.USE_STREAM:
                allocator.record_stream(self.blocks[target], value)
            case EventKind.RECORD_EVENT:
                allocator.record_event(target, value)
            case EventKind.STREAM_WAIT_EVENT:
                allocator.stream_wait_event(target, value)
            case EventKind.HOST_WAIT_EVENT:
                allocator.host_wait_event(target)
            case EventKind.HOST_WAIT_STREAM:
                allocator.host_wait_stream(value)
            case EventKind.HOST_WAIT_DEVICE:
                allocator.synchronize()
            case EventKind.EMPTY_CACHE:
                allocator.empty_cache()
            case EventKind.RESET_PEAK:
                self._reset_peak(position)
            case EventKind.MARK:
                self._read(self._marks[target], position)
            case _:
                raise InputError("events", kind, f"unknown kind of event at position {position}")

    def _reset_peak(self, position: int) -> None:
        self.allocator.reset_peak_stats()
        self._peak_allocated_position = self._peak_reserved_position = position

    def _read(self, name: str, position: int) -> None:
        reading = MarkReading.of(name, position, self.allocator, self._interval_peak)
        self._readings.append(reading)
        self._interval_peak = reading.allocated_bytes

    def result(self) -> ReplayResult:
        """Everything up to the last event fed."""
        statistics = self.allocator.statistics
        return ReplayResult(
            peak_allocated_bytes=statistics.all.allocated_bytes_peak,
            peak_active_bytes=statistics.all.active_bytes_peak,
            peak_reserved_bytes=statistics.all.reserved_bytes_peak,
            peak_allocated_position=self._peak_allocated_position,
            peak_reserved_position=self._peak_reserved_position,
            allocated_bytes=statistics.all.allocated_bytes,
            reserved_bytes=statistics.all.reserved_bytes,
            num_events=self._position,
            num_alloc_retries=statistics.num_alloc_retries,
            marks=tuple(self._readings),
            out_of_memory=tuple(self._failures),
            live_at_peak=self._live_at_peak() if self._track_live else {},
        )

    def _live_at_peak(self) -> dict[int, int]:
        """Walked again from the start: copying the live set at every new maximum would cost more than the replay."""
        live: dict[int, int] = {}
        sizes = iter(self._handed_out)
        remaining = min(self._peak_allocated_position + 1, self._position)
        for events in self._fed:
            for kind, target, _ in events[:remaining]:
                if kind == 0:
                    live[target] = next(sizes, 0)  # 0: the request that ended the replay
                elif kind == 1:
                    del live[target]
            remaining -= len(events)
            if remaining <= 0:
                break
        return {target: size for target, size in live.items() if size}


def replay(
    timeline: Timeline,
    config: AllocatorConfig | None = None,
    capacity_bytes: int | None = None,
    *,
    total_bytes: int | None = None,
    deferred_free: DeferredFree = "immediate",
    keep_going: bool = False,
    track_live: bool = True,
) -> ReplayResult:
    """Replay a timeline through a fresh allocator; arguments are those of `CachingAllocator` and `Replayer`."""
    allocator = CachingAllocator(config, capacity_bytes, total_bytes=total_bytes, deferred_free=deferred_free)
    replayer = Replayer(
        timeline.allocations, timeline.marks, allocator=allocator, keep_going=keep_going, track_live=track_live
    )
    replayer.feed(timeline.events)
    return replayer.result()
