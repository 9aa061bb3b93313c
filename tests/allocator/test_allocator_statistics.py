"""memory_stats has PyTorch's keys, and its figures are those of a short hand-worked program."""

from vramcast.allocator import AllocatorConfig, CachingAllocator
from vramcast.units import MIB

# Source: torch.cuda.memory_stats of PyTorch 2.13 and THCPModule_memoryStats in torch/csrc/cuda/Module.cpp.
PER_POOL = (
    "active",
    "active_bytes",
    "allocated_bytes",
    "allocation",
    "inactive_split",
    "inactive_split_bytes",
    "requested_bytes",
    "reserved_bytes",
    "segment",
)
COUNTERS = (
    "max_split_size",
    "num_alloc_retries",
    "num_device_alloc",
    "num_device_free",
    "num_oom_rejections",
    "num_ooms",
    "num_sync_all_streams",
)
METRICS = ("allocated", "current", "freed", "peak")


def test_keys_and_their_order() -> None:
    expected = {
        f"{name}.{pool}.{metric}"
        for name in PER_POOL
        for pool in ("all", "large_pool", "small_pool")
        for metric in METRICS
    }
    expected |= {f"oversize_{name}.{metric}" for name in ("allocations", "segments") for metric in METRICS}
    expected |= set(COUNTERS)
    assert list(CachingAllocator().memory_stats()) == sorted(expected)


def test_max_split_size_is_minus_one_when_unlimited() -> None:
    assert CachingAllocator().memory_stats()["max_split_size"] == -1
    limited = CachingAllocator(AllocatorConfig(max_split_size=30 * MIB))
    assert limited.memory_stats()["max_split_size"] == 30 * MIB


def test_figures_of_a_short_program() -> None:
    # 3 MiB split off 20 MiB; 1000 B -> 1024 split off 2 MiB; the first freed and its segment given back.
    allocator = CachingAllocator()
    large = allocator.malloc(3 * MIB)
    allocator.malloc(1000)
    allocator.free(large)
    allocator.empty_cache()
    stats = allocator.memory_stats()
    four = {name: tuple(stats[f"{name}.{metric}"] for metric in METRICS) for name in ("segment.all", "allocation.all")}
    assert four == {"segment.all": (2, 1, 1, 2), "allocation.all": (2, 1, 1, 2)}
    assert stats["reserved_bytes.all.peak"] == 22 * MIB
    assert stats["reserved_bytes.small_pool.current"] == stats["reserved_bytes.all.current"] == 2 * MIB
    assert stats["allocated_bytes.all.peak"] == 3 * MIB + 1024
    assert stats["requested_bytes.all.peak"] == 3 * MIB + 1000
    assert (stats["allocated_bytes.small_pool.current"], stats["requested_bytes.small_pool.current"]) == (1024, 1000)
    assert stats["inactive_split_bytes.all.peak"] == 17 * MIB + 2 * MIB - 1024
    assert stats["inactive_split_bytes.large_pool.current"] == 0
    assert (stats["num_device_alloc"], stats["num_device_free"], stats["num_sync_all_streams"]) == (2, 1, 1)
