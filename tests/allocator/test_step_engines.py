"""A generation replayed through the flat allocator is the one replayed through `CachingAllocator`."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_programs import CONFIGS

from vramcast.allocator import AllocatorConfig, CachingAllocator, GenerationReplay, Replayer, replay_generation
from vramcast.allocator.flat_steps import FlatStepEngine
from vramcast.timeline import Allocation, Event, EventKind, Timeline
from vramcast.timeline.decode import DecodeExtension, DecodeSegment, GrowingAllocation, StepTemplate
from vramcast.units import MIB

SIZES = st.sampled_from([0, 1, 511, 512, 3000, 70_000, MIB, MIB + 1, 3 * MIB, 9 * MIB, 12 * MIB, 30 * MIB])
GROWTHS = st.sampled_from([0, 0, 1, 64, 512, 5000])
CAPACITIES = st.none() | st.integers(20, 400).map(lambda size: size * MIB)


@st.composite
def templates(draw: st.DrawFn, num_state: int) -> StepTemplate:
    """A step that keeps as many allocations as it finds."""
    own = [GrowingAllocation(Allocation(draw(SIZES)), draw(GROWTHS)) for _ in range(draw(st.integers(num_state, 12)))]
    replaced = draw(st.integers(0, num_state))
    dying = [~rank for rank in draw(st.permutations(range(num_state)))[:replaced]]
    kept = draw(st.permutations(range(len(own))))[:replaced]
    events = [Event(EventKind.ALLOC, place) for place in range(len(own))]
    for place in draw(st.permutations([*dying, *(place for place in range(len(own)) if place not in kept)])):
        born = events.index(Event(EventKind.ALLOC, place)) + 1 if place >= 0 else 0
        events.insert(draw(st.integers(born, len(events))), Event(EventKind.FREE, place))
    events.insert(draw(st.integers(0, len(events))), Event(EventKind.HOST_WAIT_STREAM))
    survivors = [~rank for rank in range(num_state) if ~rank not in dying] + sorted(kept)
    return StepTemplate(tuple(events), tuple(own), tuple(survivors))


@st.composite
def generations(draw: st.DrawFn) -> tuple[Timeline, DecodeExtension]:
    """A head that leaves weights, a state and holes; segments of steps; a tail."""
    timeline, dying = Timeline(), []
    state = []
    for use in draw(st.lists(st.sampled_from(["weight", "state", "temporary"]), min_size=1, max_size=12)):
        index = timeline.alloc(Allocation(draw(SIZES)))
        if use == "state":
            state.append(index)
        if use == "temporary":
            dying.append(index)
    for index in dying:
        timeline.free(index)
    timeline.mark("after_prefill")
    segments, step = [], 1
    for _ in range(draw(st.integers(1, 2))):
        used = tuple(draw(st.lists(templates(len(state)), min_size=1, max_size=2)))
        last = step + draw(st.integers(len(used), 25)) - 1
        segments.append(DecodeSegment(step, last, used))
        step = last + 1
    return timeline, DecodeExtension(tuple(state), tuple(segments), draw(templates(len(state))))


def comparable(result: GenerationReplay) -> list[Any]:
    fields = {name: getattr(result, name) for name in result.__slots__}
    error = fields.pop("out_of_memory")
    return [fields, None if error is None else vars(error)]


def replayed_in_full(
    timeline: Timeline, decode: DecodeExtension, config: AllocatorConfig | None, capacity: int | None
) -> GenerationReplay:
    with patch.object(FlatStepEngine, "copy_of", return_value=None):
        return replay_generation(timeline, decode, config, capacity)


def copied(timeline: Timeline, decode: DecodeExtension, config: AllocatorConfig | None = None) -> bool:
    """Whether the flat allocator takes over."""
    allocator = CachingAllocator(config)
    head = Replayer(timeline.allocations, timeline.marks, allocator=allocator)
    head.feed(timeline.events)
    return FlatStepEngine.copy_of(allocator, [head.blocks.get(index) for index in decode.state], decode) is not None


@settings(max_examples=300, deadline=None)
@given(generations(), CONFIGS, CAPACITIES)
def test_every_field_is_that_of_the_full_replay(
    generation: tuple[Timeline, DecodeExtension], config: AllocatorConfig, capacity: int | None
) -> None:
    timeline, decode = generation
    assert copied(timeline, decode, config)
    flat = replay_generation(timeline, decode, config, capacity)
    assert comparable(flat) == comparable(replayed_in_full(timeline, decode, config, capacity))


def growing_cache(waits: Sequence[Event] = (), stream: int = 0, steps: int = 100) -> tuple[Timeline, DecodeExtension]:
    """One cache of 3 MiB that grows by 64 KiB a step and is copied each time."""
    timeline = Timeline()
    timeline.alloc(Allocation(5 * MIB, category="parameters"))
    cache = timeline.alloc(Allocation(3 * MIB, category="kv_cache"))
    events = (Event(EventKind.ALLOC, 0), *waits, Event(EventKind.FREE, -1))
    longer = GrowingAllocation(Allocation(3 * MIB + 65536, stream, "kv_cache"), 65536)
    tail = StepTemplate((Event(EventKind.FREE, -1),), (), ())
    segment = DecodeSegment(1, steps, (StepTemplate(events, (longer,), (0,)),))
    return timeline, DecodeExtension((cache,), (segment,), tail)


def test_a_growing_cache_by_hand() -> None:
    timeline, decode = growing_cache()
    result = replay_generation(timeline, decode)
    last, before = 3 * MIB + 100 * 65536, 3 * MIB + 99 * 65536
    assert result.peak_allocated_bytes == 5 * MIB + last + before
    assert [(allocation.nbytes, size) for allocation, size in result.live_at_peak] == [
        (5 * MIB, 5 * MIB),
        (before, before),
        (last, last),
    ]
    assert (result.peak_step, result.num_events, result.num_alloc_retries) == (100, 2 + 200 + 1, 0)


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize("capacity", [20, 25, 27, 30])
def test_a_cache_that_outgrows_the_gpu(capacity: int, expandable: bool) -> None:
    config = AllocatorConfig(expandable_segments=expandable)
    timeline, decode = growing_cache()
    flat = replay_generation(timeline, decode, config, capacity * MIB)
    assert comparable(flat) == comparable(replayed_in_full(timeline, decode, config, capacity * MIB))
    natural = replay_generation(timeline, decode, config).peak_reserved_bytes
    assert (flat.num_alloc_retries > 0) == (natural > capacity * MIB)


def test_retries_of_the_head_count() -> None:
    timeline, decode = growing_cache(steps=3)
    timeline.free(timeline.alloc(Allocation(30 * MIB)))
    timeline.free(timeline.alloc(Allocation(34 * MIB)))
    result = replay_generation(timeline, decode, None, 64 * MIB)
    assert result.num_alloc_retries == 1
    assert comparable(result) == comparable(replayed_in_full(timeline, decode, None, 64 * MIB))


def test_other_streams_and_settings_are_left_to_the_full_allocator() -> None:
    assert copied(*growing_cache())
    assert copied(*growing_cache([Event(EventKind.HOST_WAIT_DEVICE)]))
    assert not copied(*growing_cache(stream=1))
    assert not copied(*growing_cache([Event(EventKind.USE_STREAM, 0, 7)]))
    assert not copied(*growing_cache(), AllocatorConfig(max_split_size=20 * MIB))


@pytest.mark.parametrize("place", [0, -1])
def test_a_block_in_use_on_another_stream(place: int) -> None:
    timeline, decode = growing_cache([Event(EventKind.USE_STREAM, place, 7)], steps=3)
    result = replay_generation(timeline, decode)
    assert result.peak_allocated_bytes == replay_generation(*growing_cache(steps=3)).peak_allocated_bytes


def test_an_expandable_range_with_holes_is_left_to_the_full_allocator() -> None:
    timeline, decode = growing_cache()
    freed = timeline.alloc(Allocation(60 * MIB))
    timeline.alloc(Allocation(3 * MIB))
    timeline.free(freed)
    timeline.events.append(Event(EventKind.EMPTY_CACHE))
    config = AllocatorConfig(expandable_segments=True)
    assert not copied(timeline, decode, config)
    assert copied(timeline, decode)
    result = replay_generation(timeline, decode)
    assert comparable(result) == comparable(replayed_in_full(timeline, decode, None, None))
