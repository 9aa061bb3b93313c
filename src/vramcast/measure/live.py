"""Live tensors: bytes of storages without what a caching allocator and libraries add, measured or forecast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vramcast.allocator import AllocatorConfig
from vramcast.forecast.source import Source
from vramcast.timeline import Allocation, Category, EventKind, Timeline


@dataclass(frozen=True, slots=True)
class LiveReadings:
    """The largest sum of live tensors, in bytes, and what it was made of."""

    peak_bytes: int
    peak_phase: str
    breakdown: dict[Category, int]
    marks: list[dict[str, Any]] = field(default_factory=list)
    """Each mark with the bytes that were live then."""

    def to_dict(self) -> dict[str, Any]:
        """What a record keeps."""
        return {
            "peak_bytes": self.peak_bytes,
            "peak_phase": self.peak_phase,
            "breakdown": self.breakdown,
            "marks": self.marks,
        }


def live_readings(timeline: Timeline) -> LiveReadings:
    """The peak of a timeline; buffers inside kernels and workspaces of libraries are left out."""
    live = peak = 0
    alive: dict[int, None] = {}
    at_peak: list[int] = []
    marks: list[dict[str, Any]] = []
    is_peak_kept = True
    for kind, target, _ in timeline.events:
        if kind is EventKind.MARK:
            marks.append({"name": timeline.marks[target], "live_bytes": live})
        elif kind is EventKind.ALLOC and _is_tensor(timeline.allocations[target]):
            alive[target] = None
            live += timeline.allocations[target].nbytes
            is_peak_kept = is_peak_kept and live <= peak
        elif kind is EventKind.FREE and target in alive:
            if not is_peak_kept:
                # Only what is freed can end a peak, so its members are listed when the first free comes after it.
                is_peak_kept, peak, at_peak = True, live, list(alive)
            del alive[target]
            live -= timeline.allocations[target].nbytes
    if not is_peak_kept:
        peak, at_peak = live, list(alive)
    return _at_peak((timeline.allocations[index] for index in at_peak), marks)


def forecast_live(source: Source, workload: str, config: AllocatorConfig) -> LiveReadings:
    """The same of a forecast.

    Of a generation only its first steps are a timeline, so what is live at its allocated peak is taken.
    """
    if workload == "training":
        return live_readings(source.timeline())
    live = source.read(config).live_at_peak()
    return _at_peak((allocation for allocation, _ in live if _is_tensor(allocation)), [])


def _at_peak(allocations: Iterable[Allocation], marks: list[dict[str, Any]]) -> LiveReadings:
    breakdown: Counter[Category] = Counter()
    phase = ""
    for allocation in allocations:
        breakdown[allocation.category] += allocation.nbytes
        phase = allocation.phase
    return LiveReadings(breakdown.total(), phase, dict(breakdown.most_common()), marks)


def _is_tensor(allocation: Allocation) -> bool:
    return allocation.category != "workspace" and allocation.scratch is None
