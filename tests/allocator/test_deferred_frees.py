"""record_stream: allocated drops at the free, active only once the other stream is known to be through."""

import pytest

from vramcast.allocator import Block, CachingAllocator, DeferredFree
from vramcast.units import MIB

SIZE = 16 * MIB


def freed_while_in_use(policy: DeferredFree = "ahead") -> CachingAllocator:
    allocator = CachingAllocator(deferred_free=policy)
    block = allocator.malloc(SIZE)
    allocator.record_stream(block, 7)
    allocator.free(block)
    return allocator


def active(allocator: CachingAllocator) -> int:
    return allocator.statistics.all.active_bytes


def next_malloc_reuses(allocator: CachingAllocator) -> bool:
    allocator.malloc(SIZE)
    return allocator.statistics.all.reserved_bytes == SIZE


def test_free_lowers_allocated_at_once_and_active_later() -> None:
    allocator = freed_while_in_use()
    assert (allocator.statistics.all.allocated_bytes, active(allocator)) == (0, SIZE)
    assert allocator.memory_stats()["requested_bytes.all.current"] == SIZE
    assert allocator.memory_stats()["active.all.current"] == 1


def test_immediate_completes_at_the_next_malloc() -> None:
    assert next_malloc_reuses(freed_while_in_use("immediate"))


def test_ahead_waits_for_the_host() -> None:
    allocator = freed_while_in_use()
    assert not next_malloc_reuses(allocator)
    assert allocator.statistics.all.active_bytes_peak == 2 * SIZE
    assert allocator.statistics.all.allocated_bytes_peak == SIZE


def test_use_on_its_own_stream_defers_nothing() -> None:
    allocator = CachingAllocator(deferred_free="ahead")
    block = allocator.malloc(SIZE, 3)
    allocator.record_stream(block, 3)
    allocator.free(block)
    assert active(allocator) == 0


@pytest.mark.parametrize("wait", ["synchronize", "host_wait_stream", "event_after", "empty_cache"])
def test_waits_that_cover_the_free(wait: str) -> None:
    allocator = freed_while_in_use()
    match wait:
        case "synchronize":
            allocator.synchronize()
        case "host_wait_stream":
            allocator.host_wait_stream(0)
        case "event_after":
            allocator.record_event(1, 0)
            allocator.host_wait_event(1)
        case "empty_cache":
            allocator.empty_cache()
            assert active(allocator) == 0
    assert next_malloc_reuses(allocator)


def test_waits_that_do_not_cover_the_free() -> None:
    allocator = CachingAllocator(deferred_free="ahead")
    block = allocator.malloc(SIZE)
    allocator.record_event(1)
    allocator.synchronize()
    allocator.record_event(2)
    allocator.record_stream(block, 7)
    allocator.free(block)
    allocator.record_event(3)
    allocator.stream_wait_event(3, 0)
    for event_id in (1, 2, 99):
        allocator.host_wait_event(event_id)
    assert not next_malloc_reuses(allocator)


def test_an_event_recorded_again_counts_from_then() -> None:
    allocator = CachingAllocator(deferred_free="ahead")
    allocator.record_event(1)
    block = allocator.malloc(SIZE)
    allocator.record_stream(block, 7)
    allocator.free(block)
    allocator.record_event(1)
    allocator.host_wait_event(1)
    assert next_malloc_reuses(allocator)


def test_frees_complete_in_the_order_of_issue() -> None:
    allocator = CachingAllocator(deferred_free="ahead")
    blocks = [allocator.malloc(SIZE) for _ in range(3)]
    for number, block in enumerate(blocks):
        allocator.record_stream(block, 7)
        allocator.free(block)
        allocator.record_event(number)
    allocator.host_wait_event(1)
    allocator.process_events()
    assert active(allocator) == SIZE


def test_completion_does_not_wait_for_the_synchronize_but_for_a_poll() -> None:
    allocator = freed_while_in_use()
    allocator.synchronize()
    assert active(allocator) == SIZE
    allocator.process_events()
    assert active(allocator) == 0


def test_flush_for_room_waits_for_pending_frees() -> None:
    allocator = CachingAllocator(capacity_bytes=40 * MIB, deferred_free="ahead")
    block = allocator.malloc(30 * MIB)
    allocator.record_stream(block, 1)
    allocator.free(block)
    assert isinstance(allocator.malloc(40 * MIB), Block)
    assert allocator.statistics.num_alloc_retries == 1
    assert active(allocator) == allocator.statistics.all.reserved_bytes == 40 * MIB


def test_a_pending_block_does_not_merge() -> None:
    # 20 MiB segment: a, b, tail. While a waits, b merges with the tail only: 14 MiB free, so 15 MiB need a new segment.
    allocator = CachingAllocator(deferred_free="ahead")
    a, b = allocator.malloc(6 * MIB), allocator.malloc(6 * MIB)
    allocator.record_stream(a, 1)
    allocator.free(a)
    allocator.free(b)
    assert allocator.statistics.all.inactive_split_bytes == 14 * MIB
    allocator.synchronize()
    allocator.process_events()
    assert allocator.statistics.all.inactive_split_bytes == 0
    assert allocator.malloc(20 * MIB) is not None
    assert allocator.statistics.all.reserved_bytes == 20 * MIB


def test_peak_of_active_is_reset_to_what_is_active() -> None:
    allocator = freed_while_in_use()
    allocator.malloc(SIZE)
    allocator.reset_peak_stats()
    assert allocator.statistics.all.active_bytes_peak == 2 * SIZE
    allocator.synchronize()
    allocator.process_events()
    allocator.reset_peak_stats()
    assert allocator.statistics.all.active_bytes_peak == SIZE
