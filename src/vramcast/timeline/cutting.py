"""Recorded decode steps cut out of a timeline, each written so that two steps can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vramcast.timeline import Event, EventKind, Timeline
from vramcast.timeline.decode import GrowingAllocation, StepTemplate

_PLACED = (EventKind.ALLOC, EventKind.FREE, EventKind.USE_STREAM)


@dataclass(frozen=True, slots=True)
class CutTimeline:
    """A recorded generation taken apart."""

    steps: tuple[StepTemplate, ...]
    """One for each pair of neighbouring boundaries."""
    states: tuple[tuple[int, ...], ...]
    """At each boundary: indices of the allocations alive there and born after loading, in order of birth."""


def cut_steps(timeline: Timeline, boundaries: Sequence[int], *, first_allocation: int) -> CutTimeline:
    """Take a timeline apart at `boundaries` (numbers of events, ascending).

    Args:
        timeline: load, prefill and the steps.
        boundaries: step i is made of the events from `boundaries[i]` up to, not including, `boundaries[i + 1]`.
        first_allocation: index of the first allocation after loading; those before it live on and are never named by a
        step.
    """
    live: dict[int, None] = {}
    for kind, target, _ in timeline.events[: boundaries[0]]:
        if kind is EventKind.ALLOC and target >= first_allocation:
            live[target] = None
        elif kind is EventKind.FREE:
            live.pop(target, None)
    steps, states = [], [tuple(live)]
    for begin, end in pairwise(boundaries):
        step, state = _cut_step(timeline, timeline.events[begin:end], states[-1])
        steps.append(step)
        states.append(state)
    return CutTimeline(tuple(steps), tuple(states))


def _cut_step(timeline: Timeline, events: list[Event], state: tuple[int, ...]) -> tuple[StepTemplate, tuple[int, ...]]:
    places = {index: ~rank for rank, index in enumerate(state)}
    live = dict.fromkeys(state)
    born: list[int] = []
    placed: list[Event] = []
    for event in events:
        kind, target, value = event
        if kind is EventKind.MARK:
            continue
        if kind is EventKind.ALLOC:
            places[target] = len(born)
            born.append(target)
            live[target] = None
        elif kind is EventKind.FREE:
            del live[target]
        placed.append(Event(kind, places[target], value) if kind in _PLACED else event)
    allocations = tuple(GrowingAllocation(timeline.allocations[index]) for index in born)
    return StepTemplate(tuple(placed), allocations, tuple(places[index] for index in live)), tuple(live)
