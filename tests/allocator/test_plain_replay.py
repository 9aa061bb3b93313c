"""The flat allocator says what `CachingAllocator` says, in every field."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_programs import CAPACITIES, CONFIGS, as_timeline, comparable, long_timeline, plain_timelines

from vramcast.allocator import AllocatorConfig, PlainTimeline, ReplayResult, plain_replay, replay, replay_plain
from vramcast.allocator.flat_allocator import FlatAllocator
from vramcast.allocator.flat_segments import FlatExpandableAllocator, FullSimulationNeeded
from vramcast.errors import InputError
from vramcast.timeline import Allocation, Event, EventKind, Timeline
from vramcast.units import GIB, MIB


def replayed_in_full(plain: PlainTimeline, config: AllocatorConfig, capacity: int | None) -> ReplayResult:
    """Through `Replayer`, with positions that do not count the marks."""
    timeline = as_timeline(plain)
    result = replay(timeline, config, capacity)
    before = [0]
    for event in timeline.events:
        before.append(before[-1] + (event.kind is not EventKind.MARK))
    return replace(
        result,
        peak_allocated_position=before[result.peak_allocated_position],
        peak_reserved_position=before[result.peak_reserved_position],
        num_events=before[result.num_events],
        marks=tuple(replace(mark, position=before[mark.position]) for mark in result.marks),
        out_of_memory=tuple(replace(failure, position=before[failure.position]) for failure in result.out_of_memory),
    )


def assert_same(plain: PlainTimeline, config: AllocatorConfig, capacity: int | None) -> ReplayResult:
    result = replay_plain(*plain, config, capacity)
    assert comparable(result) == comparable(replayed_in_full(plain, config, capacity))
    return result


@settings(max_examples=500, deadline=None)
@given(plain_timelines(), CONFIGS, CAPACITIES)
def test_every_field_is_that_of_the_full_replay(
    plain: PlainTimeline, config: AllocatorConfig, capacity: int | None
) -> None:
    assert_same(plain, config, capacity)


@pytest.mark.parametrize("expandable", [False, True])
def test_long_timelines_within_and_beyond_a_capacity(expandable: bool) -> None:
    config, results = AllocatorConfig(expandable_segments=expandable), []
    for seed in range(4):
        plain = long_timeline(seed, 4000)
        peak = assert_same(plain, config, None).peak_reserved_bytes
        assert assert_same(plain, config, peak).num_alloc_retries == 0
        results += [assert_same(plain, config, peak - share * peak // 50) for share in range(1, 8)]
    assert any(result.num_alloc_retries and not result.out_of_memory for result in results)
    assert any(result.num_alloc_retries > 1 for result in results)
    assert any(result.out_of_memory for result in results)


@pytest.mark.parametrize(
    ("config", "capacity"),
    [
        (AllocatorConfig(max_split_size=20 * MIB), None),
        (AllocatorConfig(roundup_power2_divisions=(4,) * 16), None),
        (AllocatorConfig(per_process_memory_fraction=0.5, garbage_collection_threshold=0.5), 8 * GIB),
    ],
)
def test_other_settings_are_simulated_in_full(config: AllocatorConfig, capacity: int | None) -> None:
    plain = long_timeline(1, 500)
    assert plain_replay.flat_allocator(config, capacity, 500, GIB) is None
    assert_same(plain, config, capacity)


def test_requests_beyond_the_flat_addresses_are_simulated_in_full() -> None:
    plain = PlainTimeline([1 << 61, 5 << 59], [0, 1, ~0], [])
    assert plain_replay.flat_allocator(AllocatorConfig(), None, 3, 1 << 61) is None
    assert assert_same(plain, AllocatorConfig(), None).peak_allocated_bytes == (1 << 61) + (5 << 59)


@pytest.mark.parametrize(("size", "capacity"), [(60, 142), (80, 160), (100, 177)])
def test_a_block_as_large_as_the_last_could_grow_is_not_the_better_fit(size: int, capacity: int) -> None:
    """A free block of `size`, 20 MiB live, 40 MiB free, 40 MiB unmapped: 30 MiB go into the 40, which could grow to
    80 only, where `size` is 80 or more; then `size - 20` still fits without mapping more."""
    sizes = [size * MIB, 20 * MIB, 40 * MIB, 30 * MIB, (size - 20) * MIB]
    plain = PlainTimeline(sizes, [0, 1, 2, ~2, ~0, 3, 4], [])
    config = AllocatorConfig(expandable_segments=True)
    flat = plain_replay._replay_flat(FlatExpandableAllocator(config, capacity * MIB), *plain)
    assert comparable(flat) == comparable(replayed_in_full(plain, config, capacity * MIB))
    assert flat.peak_reserved_bytes == (size + 60) * MIB


def test_the_flat_allocator_is_the_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_replay, "CachingAllocator", None)
    plain = long_timeline(0, 300)
    peak = replay_plain(*plain).peak_reserved_bytes
    assert replay_plain(*plain, capacity_bytes=peak - MIB).peak_reserved_bytes <= peak - MIB
    expandable = AllocatorConfig(expandable_segments=True)
    peak = replay_plain(*plain, expandable).peak_reserved_bytes
    assert replay_plain(*plain, expandable, peak).peak_reserved_bytes == peak


def test_an_expandable_range_that_is_full_is_left_to_the_full_allocator() -> None:
    plain = PlainTimeline([30 * MIB, 30 * MIB], [0, ~0, 1], [])
    small = FlatExpandableAllocator(AllocatorConfig(expandable_segments=True), 20 * MIB)
    with pytest.raises(FullSimulationNeeded):
        plain_replay._replay_flat(small, *plain)
    assert assert_same(plain, small.config, 20 * MIB).out_of_memory


def test_peaks_and_marks_by_hand() -> None:
    # 4 MiB | 33 MiB (a block of 34), 2 MiB | mark | both freed | mark
    plain = PlainTimeline([4 * MIB, 33 * MIB, 2 * MIB, 0], [0, 1, 2, 3, ~1, ~2, ~3], [(4, "forward"), (7, "end")])
    result = replay_plain(*plain)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (40 * MIB, 54 * MIB)
    assert (result.peak_allocated_position, result.peak_reserved_position) == (2, 1)
    assert result.live_at_peak == {0: 4 * MIB, 1: 34 * MIB, 2: 2 * MIB}
    forward, end = result.marks
    assert (forward.name, forward.position, forward.allocated_bytes) == ("forward", 4, 40 * MIB)
    assert (end.allocated_bytes, end.interval_peak_allocated_bytes, end.reserved_bytes) == (4 * MIB, 40 * MIB, 54 * MIB)


def test_nothing() -> None:
    assert replay_plain([], [], [(0, "start")]).marks[0].allocated_bytes == 0


@pytest.mark.parametrize("divisions", [0, 4])
@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (PlainTimeline([1], [0, 0], []), "made again at event 1"),
        (PlainTimeline([0], [0, 0], []), "made again at event 1"),
        (PlainTimeline([1], [~0], []), "not alive"),
        (PlainTimeline([1], [0, ~0, ~0], []), "not alive"),
        (PlainTimeline([-1], [], []), "smaller than 0"),
        (PlainTimeline([1], [1], []), "there are 1 allocations"),
        (PlainTimeline([1], [~1], []), "there are 1 allocations"),
        (PlainTimeline([1], [0], [(1, "a"), (0, "b")]), "marks"),
        (PlainTimeline([1], [0], [(2, "a")]), "marks"),
    ],
)
def test_bad_input_is_refused_alike(plain: PlainTimeline, message: str, divisions: int) -> None:
    with pytest.raises(InputError, match=message):
        replay_plain(*plain, AllocatorConfig(roundup_power2_divisions=(divisions,) * 16))


def test_a_capacity_has_to_be_positive() -> None:
    with pytest.raises(InputError, match="capacity_bytes"):
        replay_plain([1], [0], capacity_bytes=0)


@given(plain_timelines())
def test_lists_of_a_timeline(plain: PlainTimeline) -> None:
    assert PlainTimeline.of(as_timeline(plain)) == plain


def test_timelines_that_lists_cannot_say() -> None:
    assert PlainTimeline.of(Timeline([Allocation(1), Allocation(1, stream=1)])) is None
    for kind in (EventKind.EMPTY_CACHE, EventKind.RESET_PEAK, EventKind.USE_STREAM):
        assert PlainTimeline.of(Timeline([Allocation(1)], [Event(EventKind.ALLOC, 0), Event(kind)])) is None
    waits = [Event(EventKind.RECORD_EVENT, 3), Event(EventKind.HOST_WAIT_EVENT, 3), Event(EventKind.HOST_WAIT_DEVICE)]
    assert PlainTimeline.of(Timeline([Allocation(1)], [Event(EventKind.ALLOC, 0), *waits])) == ([1], [0], [])


@given(st.integers(0, 3), st.booleans())
def test_a_replay_may_come_in_pieces(seed: int, expandable: bool) -> None:
    plain, config = long_timeline(seed, 200), AllocatorConfig(expandable_segments=expandable)

    def flat(pieces: list[list[int]]) -> FlatAllocator:
        allocator = plain_replay.flat_allocator(config, None, 200, GIB)
        assert allocator is not None
        requests = plain_replay.Requests.of(plain.sizes)
        starts: list[int | None] = [None] * len(plain.sizes)
        blocks = [0] * len(plain.sizes)
        for piece in pieces:
            allocator.run(piece, requests, starts, blocks)
        return allocator

    whole, split = flat([plain.events]), flat([plain.events[:77], [], plain.events[77:]])
    assert (whole.small, whole.large, whole.end_of) == (split.small, split.large, split.end_of)
    assert (whole.peak_position, whole.num_events) == (split.peak_position, split.num_events)
