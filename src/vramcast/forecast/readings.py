"""What a replay of a recording shows: peaks, the live set at the peak, the maximum of every phase."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vramcast.allocator import AllocatorConfig, CachingAllocator, MarkReading, Replayer
from vramcast.allocator.deferred_frees import DeferredFree
from vramcast.progress import Progress
from vramcast.timeline import Allocation, Category, Event, EventKind, Recording, Timeline

PHASE_PEAKS = {
    "after_forward": "forward_peak",
    "after_backward": "backward_peak",
    "after_optimizer": "optimizer_peak",
    "after_prefill": "prefill_peak",
    "after_decode": "decode_peak",
}
"""Mark that ends an interval -> name of the maximum over that interval."""

Live = list[tuple[Allocation, int]]
"""Allocations in order of birth, each with the bytes of its block."""


def _nothing() -> Live:
    return []


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
    marks_before_peak: tuple[str, ...] = ()
    """Marks passed before the allocated peak."""
    live_at_peak: Callable[[], Live] = field(default=_nothing, compare=False, repr=False)
    """Everything alive at the allocated peak; made when asked, for few ask."""


def peak_reserved_bytes(timeline: Timeline, config: AllocatorConfig, deferred_free: DeferredFree) -> int:
    """The reserved peak of a replay without a limit, under one policy for frees that wait for another stream."""
    allocator = CachingAllocator(config, deferred_free=deferred_free)
    replayer = Replayer(timeline.allocations, timeline.marks, allocator=allocator, track_live=False)
    replayer.feed(_without_resets(timeline.events))
    return replayer.result().peak_reserved_bytes


def read_recording(
    recording: Recording, config: AllocatorConfig, capacity_bytes: int | None = None, progress: Progress | None = None
) -> Readings:
    """Replay a recording, and after it the decode steps it stands for.

    The peak is the maximum over everything, also across calls of `reset_peak_memory_stats` in the code that was recorded. `instants`
    holds, for every mark, what was allocated when it was last passed, and `<phase>_peak` for the last interval that ends there.
    """
    timeline = recording.timeline
    if recording.decode is not None:
        from vramcast.allocator import replay_generation

        report = None if progress is None else lambda done, total: progress("replaying decode steps", done, total)
        whole = replay_generation(timeline, recording.decode, config, capacity_bytes, progress=report)
        return readings_of(
            whole.live_at_peak,
            whole.marks,
            whole.peak_reserved_bytes,
            whole.num_alloc_retries,
            whole.out_of_memory is not None,
            lambda: list(whole.live_at_peak),
        )
    replayer = Replayer(timeline.allocations, timeline.marks, allocator=CachingAllocator(config, capacity_bytes))
    completed = replayer.feed(_without_resets(timeline.events))
    result = replayer.result()
    live = [(timeline.allocations[index], nbytes) for index, nbytes in result.live_at_peak.items()]
    return readings_of(
        live, result.marks, result.peak_reserved_bytes, result.num_alloc_retries, not completed, lambda: live
    )


class Purpose(Protocol):
    """What an allocation is for; an `Allocation` and a tape's label both say it."""

    @property
    def category(self) -> Category:
        """What it is for."""

    @property
    def phase(self) -> str:
        """What was being done."""


def readings_of(
    live: Sequence[tuple[Purpose, int]],
    marks: Sequence[MarkReading],
    peak_reserved_bytes: int,
    retries: int,
    out_of_memory: bool,
    live_at_peak: Callable[[], Live],
) -> Readings:
    """What a replay comes to; `live` holds everything alive at the allocated peak in order of birth, with the bytes of its block."""
    breakdown: Counter[Category] = Counter()
    for allocation, nbytes in live:
        breakdown[allocation.category] += nbytes
    return Readings(
        peak_allocated_bytes=breakdown.total(),
        peak_reserved_bytes=peak_reserved_bytes,
        # The peak is reached by an allocation, so the youngest one alive is the one that reached it.
        peak_phase=live[-1][0].phase if live else "",
        breakdown=dict(breakdown.most_common()),
        instants=_instants(marks),
        num_alloc_retries=retries,
        out_of_memory=out_of_memory,
        marks_before_peak=_marks_before_peak(marks, breakdown.total()),
        live_at_peak=live_at_peak,
    )


def _marks_before_peak(marks: Sequence[MarkReading], peak_allocated_bytes: int) -> tuple[str, ...]:
    # The first interval that reaches the peak is the one the replay took it from.
    reached = (n for n, mark in enumerate(marks) if mark.interval_peak_allocated_bytes == peak_allocated_bytes)
    return tuple(mark.name for mark in marks[: next(reached, len(marks))])


def _instants(marks: Iterable[MarkReading]) -> dict[str, int]:
    instants: dict[str, int] = {}
    decoding: list[int] = []
    for mark in marks:
        peak_name = PHASE_PEAKS.get(mark.name)
        if mark.name == "decode_step":
            decoding.append(mark.interval_peak_allocated_bytes)
            continue
        instants[mark.name] = mark.allocated_bytes
        if peak_name is not None:
            instants[peak_name] = mark.interval_peak_allocated_bytes
    if decoding and "decode_peak" in instants:
        instants["decode_peak"] = max(instants["decode_peak"], *decoding)
    return instants


def _without_resets(events: Sequence[Event]) -> list[Event]:
    # A reset is replaced, not dropped, so that positions stay those of the timeline.
    return [Event(EventKind.HOST_WAIT_STREAM) if event.kind is EventKind.RESET_PEAK else event for event in events]
