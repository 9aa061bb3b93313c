"""Which phase each event of a timeline belongs to, and which optimizer step."""

from typing import NamedTuple

from vramcast.timeline import EventKind, Timeline

END_OF_STEP = "after_step"
"""Mark behind the `zero_grad` that ends an optimizer step."""
_PHASE_WITHOUT_ALLOCATIONS = {END_OF_STEP: "zero_grad"}
"""Mark that ends a stretch in which memory is only freed -> name of the phase."""


class PhaseInterval(NamedTuple):
    """Events `begin` up to, not including, `end`."""

    phase: str
    """As in `Allocation.phase`, or `zero_grad`; empty where nothing is known."""
    begin: int
    end: int


class StepInterval(NamedTuple):
    """Events of one optimizer step, `end` not included."""

    begin: int
    end: int


def phase_intervals(timeline: Timeline, num_events: int) -> tuple[PhaseInterval, ...]:
    """Phases of the first `num_events` events, in order and without gaps.

    An allocation says its phase, a free does not. So a phase lasts until the first mark behind its last allocation, or, where
    there is no mark, until the first allocation of the next phase.
    """
    found: list[PhaseInterval] = []
    current: str | None = None
    begin = 0
    marks: list[tuple[str, int]] = []
    for position, (kind, target, _) in enumerate(timeline.events[:num_events]):
        if kind == EventKind.MARK:
            marks.append((timeline.marks[target], position + 1))
        elif kind == EventKind.ALLOC:
            phase = timeline.allocations[target].phase
            if current is not None and phase != current:
                begin = _close(found, current, begin, marks, position)
            current, marks = phase, []
    if current is not None:
        ends_freeing = any(name in _PHASE_WITHOUT_ALLOCATIONS for name, _ in marks)
        begin = _close(found, current, begin, marks if ends_freeing else [], num_events)
    if begin < num_events:
        found.append(PhaseInterval("", begin, num_events))
    return tuple(found)


def _close(found: list[PhaseInterval], phase: str, begin: int, marks: list[tuple[str, int]], end: int) -> int:
    """Append the interval of `phase` and those of the marks behind it; returns where the next one begins."""
    first_end = marks[0][1] if marks else end
    found.append(PhaseInterval(phase, begin, first_end))
    begin = first_end
    for name, position in marks[1:]:
        if name in _PHASE_WITHOUT_ALLOCATIONS:
            found.append(PhaseInterval(_PHASE_WITHOUT_ALLOCATIONS[name], begin, position))
            begin = position
    return begin


def step_intervals(timeline: Timeline, phases: tuple[PhaseInterval, ...], num_events: int) -> tuple[StepInterval, ...]:
    """Optimizer steps that were completed: each ends at a mark `after_step`, or where there is none with the optimizer's phase.

    The first begins where loading ends.
    """
    ends = [position + 1 for name, position in timeline.mark_positions() if name == END_OF_STEP]
    ends = ends or [interval.end for interval in phases if interval.phase == "optimizer"]
    begin = phases[0].end if phases and phases[0].phase == "load" else 0
    found = []
    for end in ends:
        if end <= num_events:
            found.append(StepInterval(begin, end))
            begin = end
    return tuple(found)
