"""What a replay of a recording shows: peaks, the live set at the peak, the maximum of every phase."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vramcast.allocator import AllocatorConfig, CachingAllocator, Replayer
from vramcast.timeline.recording import Recording
from vramcast.timeline import Allocation, Category, Event, EventKind

END = "end"


@dataclass(frozen=True, slots=True)
class Readings:
    """One replay, in bytes."""

    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_phase: str
    breakdown: dict[Category, int]
    instants: dict[str, int]
    num_alloc_retries: int
    out_of_memory: bool


def read_recording(recording: Recording, config: AllocatorConfig, capacity_bytes: int | None = None) -> Readings:
    """Replay a recording, interval by interval between its marks.

    The peak is the maximum over everything, also across calls of `reset_peak_memory_stats` in the code that was recorded. `instants`
    holds, for every mark, what was allocated when it was last passed, and `<phase>_peak` for the intervals of the last step.
    """
    timeline = recording.timeline
    allocator = CachingAllocator(config, capacity_bytes)
    replayer = Replayer(timeline.allocations, timeline.marks, allocator=allocator)
    counts = allocator.statistics.all
    peak_allocated = peak_reserved = 0
    instants: dict[str, int] = {}
    phase_peaks: dict[str, int] = {}
    completed = True
    for name, events in _intervals(timeline.events, timeline.marks):
        completed = replayer.feed(events)
        peak_allocated = max(peak_allocated, counts.allocated_bytes_peak)
        peak_reserved = max(peak_reserved, counts.reserved_bytes_peak)
        if name != END:
            instants[name] = counts.allocated_bytes
        phase_peaks[name] = counts.allocated_bytes_peak
        allocator.reset_peak_stats()
        if not completed:
            break
    result = replayer.result()
    live = result.live_at_peak
    peak_event = timeline.events[result.peak_allocated_position] if timeline.events else None
    for mark, peak_name in _PHASE_PEAKS.items():
        if mark in phase_peaks:
            instants[peak_name] = phase_peaks[mark]
    return Readings(
        peak_allocated_bytes=peak_allocated,
        peak_reserved_bytes=peak_reserved,
        peak_phase="" if peak_event is None else _phase_of(timeline.allocations, peak_event),
        breakdown=_by_category(timeline.allocations, live),
        instants=instants,
        num_alloc_retries=result.num_alloc_retries,
        out_of_memory=not completed,
    )


_PHASE_PEAKS = {
    "after_forward": "forward_peak",
    "after_backward": "backward_peak",
    "after_optimizer": "optimizer_peak",
    "after_prefill": "prefill_peak",
    "decode_step": "decode_peak",
}
"""Mark that ends an interval -> name of the maximum over that interval."""


def _intervals(events: Sequence[Event], marks: Sequence[str]) -> Iterator[tuple[str, list[Event]]]:
    """(mark that ends it, events up to and with that mark), in order; peaks of the user's own resets are not forgotten."""
    begin = 0
    for position, event in enumerate(events):
        if event.kind is EventKind.MARK:
            yield marks[event.target], _without_resets(events[begin : position + 1])
            begin = position + 1
    if begin < len(events):
        yield END, _without_resets(events[begin:])


def _without_resets(events: Sequence[Event]) -> list[Event]:
    # A reset is replaced, not dropped, so that positions stay those of the timeline.
    return [Event(EventKind.HOST_WAIT_STREAM) if event.kind is EventKind.RESET_PEAK else event for event in events]


def _phase_of(allocations: Sequence[Allocation], event: Event) -> str:
    return allocations[event.target].phase if event.kind is EventKind.ALLOC else ""


def _by_category(allocations: Sequence[Allocation], live: dict[int, int]) -> dict[Category, int]:
    totals: Counter[Category] = Counter()
    for index, nbytes in live.items():
        totals[allocations[index].category] += nbytes
    return dict(totals.most_common())
