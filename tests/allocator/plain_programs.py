"""Random allocations and frees of one stream, as the plain lists that `replay_plain` takes."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from vramcast.allocator import AllocatorConfig, ReplayResult
from vramcast.allocator.plain_replay import PlainTimeline
from vramcast.timeline import Allocation, Event, EventKind, Timeline
from vramcast.units import GIB, MIB

SIZES = (
    st.integers(0, 2048)
    | st.integers(1, MIB + 1024)
    | st.integers(MIB - 1024, 22 * MIB)
    | st.integers(8 * MIB, 6 * GIB)
    | st.sampled_from(
        [size + change for size in (512, MIB, 2 * MIB, 10 * MIB, 20 * MIB) for change in (-512, -1, 0, 1, 512)]
    )
)
CAPACITIES = st.none() | st.integers(1, 150).map(lambda size: size * MIB) | st.integers(1, 12).map(lambda n: n * GIB)
CONFIGS = st.sampled_from(
    [
        AllocatorConfig(),
        AllocatorConfig(expandable_segments=True),
        AllocatorConfig(large_segment_size=40 * MIB),
        AllocatorConfig(large_segment_size=40 * MIB, expandable_segments=True),
    ]
)


@st.composite
def plain_timelines(draw: st.DrawFn) -> PlainTimeline:
    """Allocations that are made, freed in any order, and made again, with marks in between."""
    distinct = draw(st.lists(SIZES, min_size=1, max_size=6))
    steps = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 20)), max_size=80))
    return _timeline(distinct, steps)


def long_timeline(seed: int, num_events: int) -> PlainTimeline:
    """As `plain_timelines`, thousands of events long."""
    source = random.Random(seed)
    kinds = (512, 3000, 90_000, MIB, 3 * MIB, 9 * MIB, 11 * MIB, 33 * MIB, 70 * MIB)
    distinct = [source.randrange(1, 2 * size) for size in kinds for _ in range(4)]
    return _timeline(distinct, [(source.randrange(4), source.randrange(1 << 20)) for _ in range(num_events)])


def _timeline(distinct: list[int], steps: list[tuple[int, int]]) -> PlainTimeline:
    plain = PlainTimeline([], [], [])
    live: list[int] = []
    dead: list[int] = []
    for kind, number in steps:
        if kind < 2 and live:
            index = live.pop(number % len(live))
            dead.append(index)
            plain.events.append(~index)
        elif kind == 2 and number % 5 == 0:
            plain.marks.append((len(plain.events), f"mark {len(plain.marks)}"))
        else:
            again = number % 7 == 0 and bool(dead)
            index = dead.pop(number % len(dead)) if again else len(plain.sizes)
            if not again:
                plain.sizes.append(distinct[number % len(distinct)])
            live.append(index)
            plain.events.append(index)
    return plain


def as_timeline(plain: PlainTimeline) -> Timeline:
    """The same as allocations and events."""
    timeline = Timeline([Allocation(size) for size in plain.sizes])
    names: dict[int, list[str]] = {}
    for position, name in plain.marks:
        names.setdefault(position, []).append(name)
    for position in range(len(plain.events) + 1):
        for name in names.get(position, ()):
            timeline.mark(name)
        if position < len(plain.events):
            _append(timeline, plain.events[position])
    return timeline


def _append(timeline: Timeline, index: int) -> None:
    if index < 0:
        timeline.free(~index)
    else:
        timeline.events.append(Event(EventKind.ALLOC, index))


def comparable(result: ReplayResult) -> tuple[ReplayResult, list[Any], list[int]]:
    """Every field, with errors by what they say and the order of the live set."""
    failures = [(failure.position, failure.allocation, vars(failure.error)) for failure in result.out_of_memory]
    return replace(result, out_of_memory=()), failures, list(result.live_at_peak)
