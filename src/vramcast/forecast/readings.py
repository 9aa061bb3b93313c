"""What a replay of a recording shows: peaks, the live set at the peak, the maximum of every phase."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vramcast.allocator import AllocatorConfig, CachingAllocator, Replayer, ReplayResult
from vramcast.timeline.recording import Recording
from vramcast.timeline import Allocation, Category, Event, EventKind


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
    """Replay a recording.

    The peak is the maximum over everything, also across calls of `reset_peak_memory_stats` in the code that was recorded. `instants`
    holds, for every mark, what was allocated when it was last passed, and `<phase>_peak` for the last interval that ends there.
    """
    timeline = recording.timeline
    replayer = Replayer(timeline.allocations, timeline.marks, allocator=CachingAllocator(config, capacity_bytes))
    completed = replayer.feed(_without_resets(timeline.events))
    result = replayer.result()
    peak_event = timeline.events[result.peak_allocated_position] if timeline.events else None
    return Readings(
        peak_allocated_bytes=result.peak_allocated_bytes,
        peak_reserved_bytes=result.peak_reserved_bytes,
        peak_phase="" if peak_event is None else _phase_of(timeline.allocations, peak_event),
        breakdown=_by_category(timeline.allocations, result.live_at_peak),
        instants=_instants(result),
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


def _instants(result: ReplayResult) -> dict[str, int]:
    instants: dict[str, int] = {}
    for mark in result.marks:
        instants[mark.name] = mark.allocated_bytes
        if mark.name in _PHASE_PEAKS:
            instants[_PHASE_PEAKS[mark.name]] = mark.interval_peak_allocated_bytes
    return instants


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
