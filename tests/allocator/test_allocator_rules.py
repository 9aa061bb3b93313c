"""Single rules of the allocator, with the numbers worked out in the comments."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.allocator import AllocatorConfig, AllocatorOutOfMemory, Block, CachingAllocator
from vramcast.allocator.blocks import round_request, segment_size
from vramcast.errors import InputError
from vramcast.units import GIB, MIB

NO_DIVISIONS = (0,) * 16


def take(allocator: CachingAllocator, nbytes: int, stream: int = 0) -> Block:
    block = allocator.malloc(nbytes, stream)
    assert block is not None
    return block


def reserved(allocator: CachingAllocator) -> int:
    return allocator.statistics.all.reserved_bytes


@pytest.mark.parametrize(("nbytes", "rounded"), [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)])
def test_rounding_to_512(nbytes: int, rounded: int) -> None:
    assert round_request(nbytes, NO_DIVISIONS) == rounded


@pytest.mark.parametrize(
    ("nbytes", "divisions", "rounded"),
    [
        (2048, 4, 2048),  # not above 512 x 4: plain rounding
        (2049, 4, 2560),  # between 2048 and 4096 in steps of 512
        (1200 * 1024, 4, 1280 * 1024),  # steps of 256 KiB above 1 MiB
        (4 * MIB, 8, 4 * MIB),  # a power of two stays
        (4 * MIB + 1, 8, 4 * MIB + MIB // 2),
        (7 * MIB + MIB // 2 + 1, 8, 8 * MIB),  # the last step ends at the next power of two
    ],
)
def test_rounding_to_divisions(nbytes: int, divisions: int, rounded: int) -> None:
    assert round_request(nbytes, (divisions,) * 16) == rounded


def test_divisions_belong_to_an_interval() -> None:
    # 4 divisions in [64 MiB, 128 MiB) only: 65 MiB -> 80 MiB there, plain rounding elsewhere.
    divisions = (0,) * 6 + (4,) + (0,) * 9
    assert round_request(65 * MIB, divisions) == 80 * MIB
    assert round_request(129 * MIB + 1, divisions) == 129 * MIB + 512


@given(st.integers(1, 40 * GIB), st.sampled_from([0, 1, 2, 4, 8, 16, 64]))
def test_rounding_never_loses_bytes(nbytes: int, divisions: int) -> None:
    rounded = round_request(nbytes, (divisions,) * 16)
    assert rounded >= nbytes and rounded % 512 == 0
    assert round_request(rounded, (divisions,) * 16) == rounded


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_segment_sizes(size: int, segment: int) -> None:
    assert segment_size(size, 20 * MIB) == segment


def test_zero_bytes_take_no_block() -> None:
    allocator = CachingAllocator()
    assert allocator.malloc(0) is None
    allocator.free(None)
    allocator.record_stream(None, 3)
    assert allocator.memory_stats()["allocation.all.allocated"] == 0


def test_refuses_negative_sizes_double_frees_and_uses_of_dead_blocks() -> None:
    allocator = CachingAllocator()
    with pytest.raises(InputError, match="nbytes=-1"):
        allocator.malloc(-1)
    block = take(allocator, 100)
    allocator.free(block)
    with pytest.raises(InputError, match="only once"):
        allocator.free(block)
    with pytest.raises(InputError, match="not freed"):
        allocator.record_stream(block, 1)


def test_unsplit_remainder_is_handed_out() -> None:
    # 33 MiB -> 34 MiB segment; exactly 1 MiB would be left, and only more than 1 MiB is split off.
    allocator = CachingAllocator()
    assert take(allocator, 33 * MIB).size == 34 * MIB
    # 32 MiB + 512 - 1 MiB leaves 1 MiB + 1024: split.
    allocator = CachingAllocator()
    assert take(allocator, 33 * MIB - 512).size == 33 * MIB - 512
    assert allocator.statistics.all.inactive_split_bytes == MIB + 512


def test_equal_candidates_are_taken_from_the_lowest_address() -> None:
    allocator = CachingAllocator()
    blocks = [take(allocator, 12 * MIB) for _ in range(3)]
    first = blocks[0].address
    for block in reversed(blocks):
        allocator.free(block)
    assert take(allocator, 12 * MIB).address == first


def test_addresses_are_aligned_and_never_shared() -> None:
    allocator = CachingAllocator()
    blocks = [take(allocator, nbytes) for nbytes in (1, 513, MIB, 3 * MIB, 11 * MIB, 700) for _ in range(5)]
    spans = sorted((block.address, block.address + block.size) for block in blocks)
    assert all(start % 512 == 0 for start, _ in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_middle_block_merges_both_sides() -> None:
    # Three blocks fill 20 MiB with 2 MiB left over; freed from the outside in, one free block of 20 MiB remains.
    allocator = CachingAllocator()
    a, b, c = (take(allocator, 6 * MIB) for _ in range(3))
    allocator.free(a)
    allocator.free(c)
    assert allocator.statistics.all.inactive_split == 2
    assert allocator.statistics.all.inactive_split_bytes == 14 * MIB
    allocator.free(b)
    assert allocator.statistics.all.inactive_split == 0
    assert take(allocator, 20 * MIB).size == 20 * MIB
    assert reserved(allocator) == 20 * MIB


def test_memory_fraction_counts_the_whole_segment() -> None:
    # 15 MiB of 30 MiB allowed: 2 MiB are asked for, but their segment is 20 MiB.
    allocator = CachingAllocator(AllocatorConfig(per_process_memory_fraction=0.5), 60 * MIB)
    take(allocator, 14 * MIB)
    with pytest.raises(AllocatorOutOfMemory) as caught:
        allocator.malloc(2 * MIB)
    assert caught.value.allowed_bytes == 30 * MIB
    assert (allocator.statistics.num_alloc_retries, allocator.statistics.num_ooms) == (1, 1)


def test_memory_fraction_of_the_whole_gpu() -> None:
    config = AllocatorConfig(per_process_memory_fraction=0.5)
    allocator = CachingAllocator(config, 60 * MIB, total_bytes=100 * MIB)
    take(allocator, 50 * MIB)
    with pytest.raises(AllocatorOutOfMemory):
        allocator.malloc(1)


def test_throw_on_oom_does_not_flush() -> None:
    config = AllocatorConfig(per_process_memory_fraction=0.5, throw_on_cudamalloc_oom=True)
    allocator = CachingAllocator(config, 100 * MIB)
    allocator.free(take(allocator, 40 * MIB))
    with pytest.raises(AllocatorOutOfMemory):
        allocator.malloc(44 * MIB)
    statistics = allocator.statistics
    assert (statistics.num_oom_rejections, statistics.num_alloc_retries, statistics.num_ooms) == (1, 0, 0)
    assert reserved(allocator) == 40 * MIB


def test_out_of_memory_tells_the_state() -> None:
    allocator = CachingAllocator(capacity_bytes=30 * MIB)
    take(allocator, 3 * MIB)
    with pytest.raises(AllocatorOutOfMemory) as caught:
        allocator.malloc(20 * MIB + 1)
    error = caught.value
    assert (error.requested_bytes, error.allocated_bytes, error.reserved_bytes) == (20 * MIB + 512, 3 * MIB, 20 * MIB)
    assert (error.free_bytes, error.capacity_bytes, error.allowed_bytes) == (10 * MIB, 30 * MIB, None)
    assert "20971521" not in str(error) and "20972032 bytes" in str(error) and "30.00 MiB" in str(error)


def test_an_allocator_survives_running_out() -> None:
    allocator = CachingAllocator(capacity_bytes=30 * MIB)
    block = take(allocator, 20 * MIB)
    with pytest.raises(AllocatorOutOfMemory):
        allocator.malloc(20 * MIB)
    allocator.free(block)
    assert take(allocator, 30 * MIB).size == 30 * MIB
    assert allocator.statistics.num_alloc_retries == 2


def test_oversize_blocks_are_released_before_the_flush() -> None:
    # Capacity 200, max_split 50. Cached: 60 + 70 (oversize) and 20. A request of 100 needs 100 MiB of oversize blocks:
    # 70, then 60 are given back; the 20 MiB segment stays and the cache is not flushed.
    allocator = CachingAllocator(AllocatorConfig(max_split_size=50 * MIB), 200 * MIB)
    blocks = [take(allocator, nbytes * MIB) for nbytes in (60, 70, 20)]
    for block in blocks:
        allocator.free(block)
    take(allocator, 100 * MIB)
    assert reserved(allocator) == 120 * MIB
    assert allocator.statistics.num_alloc_retries == 0
    stats = allocator.memory_stats()
    assert (stats["oversize_segments.current"], stats["oversize_segments.peak"]) == (1, 2)
    assert (stats["oversize_allocations.current"], stats["oversize_allocations.freed"]) == (1, 2)


def test_one_large_enough_oversize_block_is_released_alone() -> None:
    # 90 MiB would do, but 90 >= 60 + 20 leaves too much; it is given back, and 60 fit beside the cached 54 MiB.
    allocator = CachingAllocator(AllocatorConfig(max_split_size=50 * MIB), 200 * MIB)
    blocks = [take(allocator, nbytes * MIB) for nbytes in (90, 54)]
    for block in blocks:
        allocator.free(block)
    take(allocator, 60 * MIB)
    assert reserved(allocator) == (54 + 60) * MIB


def test_a_split_limit_of_one_large_segment_wastes_it() -> None:
    # An empty 20 MiB segment is as large as the limit, so no smaller request may be carved from it again.
    allocator = CachingAllocator(AllocatorConfig(max_split_size=20 * MIB))
    for _ in range(3):
        allocator.free(take(allocator, 3 * MIB))
    assert reserved(allocator) == 60 * MIB


def test_garbage_collection_returns_the_older_blocks() -> None:
    # Allowed 100, threshold 50. Cached 20 (old) and 22 (fresh); the next segment finds 42 + 12 = 54 > 50 reserved,
    # 4 MiB above the threshold: only the blocks of at least average age go, that is the 20 MiB one.
    config = AllocatorConfig(per_process_memory_fraction=0.5, garbage_collection_threshold=0.5)
    allocator = CachingAllocator(config, 200 * MIB)
    old, fresh, live = (take(allocator, nbytes * MIB) for nbytes in (20, 22, 12))
    allocator.free(old)
    for _ in range(5):
        allocator.free(live)
        live = take(allocator, 12 * MIB)
    allocator.free(fresh)
    take(allocator, 40 * MIB)
    assert reserved(allocator) == (22 + 12 + 40) * MIB
    assert allocator.statistics.num_alloc_retries == 0


def test_no_collection_below_the_threshold() -> None:
    config = AllocatorConfig(per_process_memory_fraction=0.5, garbage_collection_threshold=0.9)
    allocator = CachingAllocator(config, 200 * MIB)
    allocator.free(take(allocator, 20 * MIB))
    take(allocator, 40 * MIB)
    assert reserved(allocator) == 60 * MIB


def test_expandable_prefers_a_hole_to_the_growing_end() -> None:
    # A hole of 6 MiB, a tail of 2 MiB: 1.5 MiB fit the tail best, but the tail counts with what it can grow to.
    allocator = CachingAllocator(AllocatorConfig(expandable_segments=True))
    a, b, c = (take(allocator, 6 * MIB) for _ in range(3))
    hole = b.address
    allocator.free(b)
    assert take(allocator, MIB + MIB // 2).address == hole
    assert reserved(allocator) == 20 * MIB
    assert a.address < hole < c.address


def test_expandable_release_keeps_partly_used_pages() -> None:
    # 50 MiB over three 20 MiB pages; freeing the last 30 MiB empties page 3 and half of page 2: one page goes back.
    allocator = CachingAllocator(AllocatorConfig(expandable_segments=True))
    take(allocator, 25 * MIB)
    tail = take(allocator, 25 * MIB)
    assert reserved(allocator) == 60 * MIB
    allocator.free(tail)
    allocator.empty_cache()
    assert reserved(allocator) == 40 * MIB
    # 15 MiB are free in page 2: 30 MiB need one more page.
    take(allocator, 30 * MIB)
    assert reserved(allocator) == 60 * MIB


def test_expandable_fills_an_unmapped_hole_first() -> None:
    allocator = CachingAllocator(AllocatorConfig(expandable_segments=True))
    first, _last = take(allocator, 40 * MIB), take(allocator, 20 * MIB)
    address = first.address
    allocator.free(first)
    allocator.empty_cache()
    assert reserved(allocator) == 20 * MIB
    assert take(allocator, 15 * MIB).address == address
    assert reserved(allocator) == 40 * MIB


def test_expandable_capacity_is_in_pages() -> None:
    allocator = CachingAllocator(AllocatorConfig(expandable_segments=True), 50 * MIB)
    take(allocator, 15 * MIB)
    take(allocator, 15 * MIB)
    with pytest.raises(AllocatorOutOfMemory):
        allocator.malloc(15 * MIB)
    assert allocator.statistics.num_alloc_retries == 1


def test_expandable_segments_are_not_counted_as_segments() -> None:
    allocator = CachingAllocator(AllocatorConfig(expandable_segments=True))
    take(allocator, 15 * MIB)
    stats = allocator.memory_stats()
    assert (stats["segment.all.allocated"], stats["inactive_split.all.allocated"]) == (0, 0)
    assert (stats["num_device_alloc"], stats["reserved_bytes.large_pool.current"]) == (1, 20 * MIB)


def test_observer_sees_what_is_taken_and_given_back() -> None:
    seen: list[tuple[str, int, int]] = []
    allocator = CachingAllocator(
        capacity_bytes=40 * MIB, observer=lambda action, _address, nbytes, stream: seen.append((action, nbytes, stream))
    )
    allocator.free(take(allocator, 30 * MIB, 5))
    take(allocator, 12 * MIB)
    with pytest.raises(AllocatorOutOfMemory):
        allocator.malloc(40 * MIB)
    assert seen == [
        ("segment_alloc", 30 * MIB, 5),
        ("segment_free", 30 * MIB, 5),
        ("segment_alloc", 12 * MIB, 0),
        ("oom", 40 * MIB, 0),
    ]


def test_observer_of_expandable_segments() -> None:
    seen: list[tuple[str, int]] = []
    allocator = CachingAllocator(
        AllocatorConfig(expandable_segments=True),
        observer=lambda action, _address, nbytes, _stream: seen.append((action, nbytes)),
    )
    allocator.free(take(allocator, 30 * MIB))
    allocator.empty_cache()
    assert seen == [("segment_map", 40 * MIB), ("segment_unmap", 40 * MIB)]


def test_small_blocks_are_split_down_to_512() -> None:
    allocator = CachingAllocator()
    take(allocator, MIB)
    assert take(allocator, MIB - 512).size == MIB - 512
    take(allocator, 1)
    assert reserved(allocator) == 2 * MIB


@pytest.mark.parametrize(("nbytes", "reserved_mib"), [(60 * MIB, 140), (60 * MIB + 1, 80)])
def test_slack_of_an_oversize_block_stays_below_the_rounding(nbytes: int, reserved_mib: int) -> None:
    # 80 MiB cached: 80 >= 60 + 20 is too much slack for 60 MiB, one byte more may have the whole block.
    allocator = CachingAllocator(AllocatorConfig(max_split_size=40 * MIB))
    allocator.free(take(allocator, 80 * MIB))
    take(allocator, nbytes)
    assert reserved(allocator) == reserved_mib * MIB
