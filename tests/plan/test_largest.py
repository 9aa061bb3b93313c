"""The largest size runs and the next one does not: against brute force, on well-behaved and on hostile sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_fakes import FakePeaks, affine

from vramcast.plan import largest_batch, longest_sequence
from vramcast.plan.known_peaks import KnownPeaks
from vramcast.units import GIB, MIB

# Live, what giving memory back saves, and fragmentation, of sizes 1, 2, 3 ...
SIZES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=80)


def source_of(rows: list[tuple[int, int, int]]) -> FakePeaks:
    def live(batch_size: int, length: int) -> int:
        return rows[batch_size * length - 1][0]

    def needed(batch_size: int, length: int) -> int:
        return sum(rows[batch_size * length - 1][:2])

    def reserved(batch_size: int, length: int) -> int:
        return sum(rows[batch_size * length - 1])

    return FakePeaks(live, needed, reserved)


def monotone(rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The same numbers such that live, needed and reserved grow with the size."""
    columns = zip(*rows, strict=True)
    return list(zip(*(sorted(column) for column in columns), strict=True))


@given(SIZES, st.integers(0, 110))
def test_monotone_sources_give_what_brute_force_gives(rows: list[tuple[int, int, int]], capacity: int) -> None:
    source = source_of(monotone(rows))
    expected = max((size for size in range(1, len(rows) + 1) if source.runs(size, 1, capacity)), default=0)
    assert largest_batch(source, 1, capacity, len(rows)).largest == expected
    assert longest_sequence(source_of(monotone(rows)), 1, capacity, len(rows)).largest == expected


@given(SIZES, st.integers(0, 110))
def test_any_source_gives_a_size_that_runs_before_one_that_does_not(
    rows: list[tuple[int, int, int]], capacity: int
) -> None:
    source = source_of(rows)
    answer = largest_batch(source, 1, capacity, len(rows))
    assert answer.largest == 0 or source.runs(answer.largest, 1, capacity)
    assert answer.largest == len(rows) or not source.runs(answer.largest + 1, 1, capacity)
    assert (answer.stopped_by == "limit") == (answer.largest == len(rows))


@given(SIZES, st.integers(0, 110))
def test_both_neighbours_were_asked_for(rows: list[tuple[int, int, int]], capacity: int) -> None:
    source = source_of(rows)
    largest = largest_batch(source, 1, capacity, len(rows)).largest
    replayed = {batch_size for batch_size, _, _ in source.peaks_calls}
    assert largest == 0 or largest in replayed
    assert largest == len(rows) or largest + 1 in replayed or source.live(largest + 1, 1) > capacity


@given(SIZES, st.lists(st.integers(0, 110), max_size=6))
def test_what_other_cards_asked_changes_no_answer(rows: list[tuple[int, int, int]], capacities: list[int]) -> None:
    rows = monotone(rows)
    shared = KnownPeaks(source_of(rows))
    for capacity in capacities:
        alone = largest_batch(source_of(rows), 1, capacity, len(rows))
        assert largest_batch(shared, 1, capacity, len(rows)) == alone


@given(st.integers(0, 30), st.integers(1, 2000), st.floats(0, 0.3), st.integers(1, 200), st.integers(1, 10**7))
def test_affine_jobs_at_true_sizes(static: int, per_token: int, share: float, gib: int, limit: int) -> None:
    source = affine(static * GIB, per_token * 1024, share)
    largest = largest_batch(source, 1024, gib * GIB, limit).largest
    assert largest == 0 or source.runs(largest, 1024, gib * GIB)
    assert largest == limit or not source.runs(largest + 1, 1024, gib * GIB)


def test_peaks_are_those_of_the_largest_size() -> None:
    source = affine(GIB, MIB)
    answer = largest_batch(source, 1024, 10 * GIB, 100)
    assert (answer.largest, answer.stopped_by) == (9, "memory")
    assert (answer.peak_allocated_bytes, answer.peak_reserved_bytes) == (10 * GIB, 10 * GIB)
    assert answer.shortfall_bytes == answer.num_alloc_retries == 0


def test_giving_memory_back_counts_and_is_said() -> None:
    source = affine(0, MIB)
    lean = FakePeaks(source.live, source.live, lambda batch, length: 2 * source.live(batch, length))
    answer = largest_batch(lean, 1024, 10 * GIB, 100)
    assert (answer.largest, answer.num_alloc_retries) == (10, 2)


def test_what_is_missing_where_not_even_one_runs() -> None:
    answer = largest_batch(affine(3 * GIB, MIB), 1024, GIB, 100)
    assert (answer.largest, answer.stopped_by, answer.shortfall_bytes) == (0, "memory", 3 * GIB)
    assert answer.peak_reserved_bytes is None


def test_the_limit_is_said_and_takes_one_replay() -> None:
    source = affine(GIB, MIB)
    answer = longest_sequence(source, 2, 10 * GIB, 1024)
    assert (answer.largest, answer.stopped_by) == (1024, "limit")
    assert source.peaks_calls == [(2, 1024, 10 * GIB)]


def test_no_capacity_at_all() -> None:
    assert largest_batch(affine(GIB, MIB), 1024, -GIB, 100).shortfall_bytes == 2 * GIB + GIB


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_search_to_ten_million_takes_few_replays(share: float) -> None:
    source = affine(GIB, 1, share)
    largest = largest_batch(source, 1024, 5 * GIB, 10**7).largest
    assert source.runs(largest, 1024, 5 * GIB) and not source.runs(largest + 1, 1024, 5 * GIB)
    # 2 MiB segments hold 2000 batches of 1 KiB: no guess can tell these apart, halving must (2 * 11 replays and a few).
    assert len(source.peaks_calls) < 30
