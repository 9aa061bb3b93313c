"""The memory of a timeline drawn out: what is allocated, by category, and reserved after every event of the allocator.

A timeline knows the order of things and no time, so a curve runs over positions: the number of the event, from 0.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vramcast.allocator import AllocatorConfig, CachingAllocator, FailedAllocation, Replayer
from vramcast.errors import InputError
from vramcast.forecast.phase_intervals import PhaseInterval, StepInterval, phase_intervals, step_intervals
from vramcast.forecast.source import RecordedSource, Source
from vramcast.timeline import CATEGORIES, Category, EventKind, Timeline
from vramcast.timeline.decode import extended_timeline

DEFAULT_POINTS = 2000
MOST_EVENTS = 2_000_000
"""Of a generation whose decode steps are written out one by one, at some 100 bytes each."""
_KEPT_OF_A_BIN = 4

Bytes = NDArray[np.int64]


class CurveMark(NamedTuple):
    """A named instant."""

    name: str
    position: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """Memory over the events of one GPU, in bytes; `positions`, `reserved_bytes` and each category have one entry a point.

    Every value is the exact one right after the event at its position; positions between two points are left out.
    """

    num_events: int
    """Events replayed: all of them, or those up to and with the request that found no memory."""
    positions: tuple[int, ...]
    category_bytes: dict[Category, tuple[int, ...]]
    """Blocks handed out, by what they are for: those categories that ever hold anything, in the order of `CATEGORIES`."""
    reserved_bytes: tuple[int, ...]
    phases: tuple[PhaseInterval, ...]
    """Without gaps, in order."""
    steps: tuple[StepInterval, ...]
    marks: tuple[CurveMark, ...]
    peak_allocated_bytes: int
    """Over the whole curve, also across `reset_peak_memory_stats`."""
    peak_allocated_position: int
    """The first at which the peak is reached; so for reserved."""
    peak_phase: str
    """Phase of the allocation that reaches the allocated peak."""
    peak_reserved_bytes: int
    peak_reserved_position: int
    out_of_memory: FailedAllocation | None = None
    """The request that found no memory; it is the last event of the curve."""

    @property
    def allocated_bytes(self) -> tuple[int, ...]:
        """What `torch.cuda.memory_allocated()` says at each point: the sum of the categories."""
        if not self.category_bytes:
            return (0,) * len(self.positions)
        return tuple(map(sum, zip(*self.category_bytes.values(), strict=True)))

    @property
    def peak_breakdown(self) -> dict[Category, int]:
        """Bytes of each category at the allocated peak; they sum to it."""
        if not self.category_bytes:
            return {}
        point = self.positions.index(self.peak_allocated_position)
        return {category: values[point] for category, values in self.category_bytes.items()}


def memory_curve(
    timeline: Timeline,
    config: AllocatorConfig | None = None,
    capacity_bytes: int | None = None,
    *,
    points: int = DEFAULT_POINTS,
) -> MemoryCurve:
    """Replay a timeline through the caching allocator and note its memory after every event.

    A timeline of more events than `points` is thinned: it is cut into bins of neighbouring events, and of each bin the
    highest and the lowest point of allocated and of reserved memory stay, so no peak and no valley is lost.

    Args:
        timeline: what happens.
        config: settings of the allocator; PyTorch's defaults if not given.
        capacity_bytes: bytes the allocator may reserve; None = no limit. The curve ends at the first request that
            finds no memory.
        points: the most points to keep.

    Raises:
        InputError: fewer than 8 points, or an allocation freed or used while it is not alive.
    """
    if points < 2 * _KEPT_OF_A_BIN:
        raise InputError("points", points, f"ask for at least {2 * _KEPT_OF_A_BIN}")
    history = _replay(timeline, config, capacity_bytes)
    allocated, reserved = np.asarray(history.allocated, np.int64), np.asarray(history.reserved, np.int64)
    num_events = len(allocated)
    kept = _kept_positions(allocated, reserved, points)
    phases = phase_intervals(timeline, num_events)
    peak_position, reserved_position = (int(values.argmax()) if num_events else 0 for values in (allocated, reserved))
    return MemoryCurve(
        num_events=num_events,
        positions=tuple(kept.tolist()),
        category_bytes=_by_category(history, kept),
        reserved_bytes=tuple(reserved[kept].tolist()),
        phases=phases,
        steps=step_intervals(timeline, phases, num_events),
        marks=tuple(
            CurveMark(name, position, int(allocated[position]))
            for name, position in timeline.mark_positions()
            if position < num_events
        ),
        peak_allocated_bytes=int(allocated.max(initial=0)),
        peak_allocated_position=peak_position,
        peak_phase=_phase_of_event(timeline, peak_position) if num_events else "",
        peak_reserved_bytes=int(reserved.max(initial=0)),
        peak_reserved_position=reserved_position,
        out_of_memory=history.failure,
    )


def source_curve(
    source: Source,
    config: AllocatorConfig | None = None,
    capacity_bytes: int | None = None,
    *,
    points: int = DEFAULT_POINTS,
) -> MemoryCurve:
    """The curve of a forecast's source, every decode step of a generation included; arguments as for `memory_curve`.

    Raises:
        InputError: a generation of more events than can be written out.
    """
    timeline = source.timeline()
    decode = source.recording.decode if isinstance(source, RecordedSource) else None
    if decode is not None:
        total = len(timeline.events) + decode.num_events
        if total > MOST_EVENTS:
            most = max(1, decode.num_steps * MOST_EVENTS // total)
            fix = f"its timeline has {total:,} events and {MOST_EVENTS:,} can be drawn; generate about {most} tokens"
            raise InputError("max_new_tokens", decode.num_steps, fix)
        timeline = extended_timeline(timeline, decode)
    return memory_curve(timeline, config, capacity_bytes, points=points)


class _History(NamedTuple):
    """One entry an event."""

    allocated: array[int]
    reserved: array[int]
    changes: array[int]
    """Bytes of the block handed out, less those of the block given back."""
    categories: array[int]
    """Index into `CATEGORIES` of what changed."""
    failure: FailedAllocation | None


def _replay(timeline: Timeline, config: AllocatorConfig | None, capacity_bytes: int | None) -> _History:
    allocator = CachingAllocator(config, capacity_bytes)
    replayer = Replayer(timeline.allocations, timeline.marks, allocator=allocator, track_live=False)
    counts, blocks = allocator.statistics.all, replayer.blocks
    index_of = {category: index for index, category in enumerate(CATEGORIES)}
    category_of = [index_of[allocation.category] for allocation in timeline.allocations]
    allocated, reserved, changes, categories = array("q"), array("q"), array("q"), array("b")
    going = True
    for event in timeline.events:
        kind, target, _ = event
        change = category = 0
        if kind == EventKind.FREE:
            # Read before the free: a cached block grows as it merges with its neighbours.
            block = blocks.get(target)
            change = -block.size if block is not None else 0
        going = replayer.feed((event,))
        if kind == EventKind.ALLOC:
            block = blocks[target]
            change = block.size if block is not None else 0
        if change:
            category = category_of[target]
        allocated.append(counts.allocated_bytes)
        reserved.append(counts.reserved_bytes)
        changes.append(change)
        categories.append(category)
        if not going:
            break
    failures = replayer.result().out_of_memory
    return _History(allocated, reserved, changes, categories, failures[0] if failures else None)


def _kept_positions(allocated: Bytes, reserved: Bytes, points: int) -> NDArray[np.int64]:
    total = len(allocated)
    if total <= points:
        return np.arange(total, dtype=np.int64)
    bins = (points - 2) // _KEPT_OF_A_BIN
    kept = {0, total - 1}
    for begin, end in pairwise(total * index // bins for index in range(bins + 1)):
        for values in (allocated[begin:end], reserved[begin:end]):
            kept |= {begin + int(values.argmax()), begin + int(values.argmin())}
    return np.array(sorted(kept), dtype=np.int64)


def _by_category(history: _History, kept: NDArray[np.int64]) -> dict[Category, tuple[int, ...]]:
    changes, categories = np.asarray(history.changes, np.int64), np.asarray(history.categories, np.int8)
    found: dict[Category, tuple[int, ...]] = {}
    for index, category in enumerate(CATEGORIES):
        of_category = np.where(categories == index, changes, 0)
        if of_category.any():
            found[category] = tuple(of_category.cumsum()[kept].tolist())
    return found


def _phase_of_event(timeline: Timeline, position: int) -> str:
    kind, target, _ = timeline.events[position]
    return timeline.allocations[target].phase if kind == EventKind.ALLOC else ""
