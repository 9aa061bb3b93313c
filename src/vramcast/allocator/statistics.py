"""What the allocator counts, for all memory and for each of the two pools, and PyTorch's dictionary of it.

Counters are plain ints that the allocator updates in place. `active` is what is allocated plus what is freed but
still in use on another stream; only the second part is counted, because it is almost always zero.

Source: DeviceStats in c10/core/CachingDeviceAllocator.h; the names of `memory_stats` are those of
torch.cuda.memory_stats in PyTorch 2.13.
"""

from vramcast.allocator.config import UNLIMITED


class PoolStatistics:
    """Current value, peak since the last reset and historical total of each quantity. Bytes, or counts of blocks and
    segments."""

    __slots__ = (
        "active_blocks_pending_peak",
        "active_bytes_pending_peak",
        "allocated_bytes",
        "allocated_bytes_peak",
        "allocated_bytes_total",
        "allocations",
        "allocations_peak",
        "allocations_total",
        "inactive_split",
        "inactive_split_bytes",
        "inactive_split_bytes_peak",
        "inactive_split_bytes_total",
        "inactive_split_peak",
        "inactive_split_total",
        "pending_blocks",
        "pending_bytes",
        "requested_bytes",
        "requested_bytes_peak",
        "requested_bytes_total",
        "reserved_bytes",
        "reserved_bytes_peak",
        "reserved_bytes_total",
        "segments",
        "segments_peak",
        "segments_total",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    active_blocks_pending_peak: int
    """Peak of active blocks over the instants at which a free was pending."""
    active_bytes_pending_peak: int
    allocated_bytes: int
    allocated_bytes_peak: int
    allocated_bytes_total: int
    allocations: int
    allocations_peak: int
    allocations_total: int
    inactive_split: int
    inactive_split_bytes: int
    inactive_split_bytes_peak: int
    inactive_split_bytes_total: int
    inactive_split_peak: int
    inactive_split_total: int
    pending_blocks: int
    pending_bytes: int
    requested_bytes: int
    requested_bytes_peak: int
    requested_bytes_total: int
    reserved_bytes: int
    reserved_bytes_peak: int
    reserved_bytes_total: int
    segments: int
    segments_peak: int
    segments_total: int

    @property
    def active_bytes(self) -> int:
        """Bytes of blocks that cannot be reused yet: allocated, or freed and still in use on another stream."""
        return self.allocated_bytes + self.pending_bytes

    @property
    def active_bytes_peak(self) -> int:
        """Peak of `active_bytes`; without a pending free it is what is allocated."""
        return max(self.allocated_bytes_peak, self.active_bytes_pending_peak)

    def count_malloc(self, size: int, requested: int) -> None:
        """A block of `size` bytes handed out for a request of `requested` bytes."""
        self.allocations_total += 1
        self.allocations = value = self.allocations + 1
        if value > self.allocations_peak:
            self.allocations_peak = value
        self.allocated_bytes_total += size
        self.allocated_bytes = value = self.allocated_bytes + size
        if value > self.allocated_bytes_peak:
            self.allocated_bytes_peak = value
        self.requested_bytes_total += requested
        self.requested_bytes = value = self.requested_bytes + requested
        if value > self.requested_bytes_peak:
            self.requested_bytes_peak = value

    def add_reserved(self, nbytes: int) -> None:
        """Memory taken from the driver."""
        self.reserved_bytes += nbytes
        self.reserved_bytes_total += nbytes
        self.reserved_bytes_peak = max(self.reserved_bytes_peak, self.reserved_bytes)

    def add_segment(self) -> None:
        """One more `cudaMalloc`."""
        self.segments += 1
        self.segments_total += 1
        self.segments_peak = max(self.segments_peak, self.segments)

    def change_inactive_split(self, blocks: int, nbytes: int) -> None:
        """Free blocks inside partly used native segments, after a free or a first split."""
        self.inactive_split = value = self.inactive_split + blocks
        if blocks > 0:
            self.inactive_split_total += blocks
            if value > self.inactive_split_peak:
                self.inactive_split_peak = value
        self.inactive_split_bytes = value = self.inactive_split_bytes + nbytes
        if nbytes > 0:
            self.inactive_split_bytes_total += nbytes
            if value > self.inactive_split_bytes_peak:
                self.inactive_split_bytes_peak = value

    def note_active_peak(self) -> None:
        """Called after a malloc while frees are pending."""
        blocks, nbytes = self.allocations + self.pending_blocks, self.allocated_bytes + self.pending_bytes
        self.active_blocks_pending_peak = max(self.active_blocks_pending_peak, blocks)
        self.active_bytes_pending_peak = max(self.active_bytes_pending_peak, nbytes)

    def reset_peak(self) -> None:
        """Every peak becomes the current value."""
        for name in self.__slots__:
            if name.endswith("_peak") and not name.endswith("_pending_peak"):
                setattr(self, name, getattr(self, name.removesuffix("_peak")))
        self.active_blocks_pending_peak = self.active_bytes_pending_peak = 0
        self.note_active_peak()

    def quantities(self) -> dict[str, tuple[int, int, int]]:
        """(current, peak, historical total of increases) by PyTorch's name."""
        active_blocks = self.allocations + self.pending_blocks
        active_blocks_peak = max(self.allocations_peak, self.active_blocks_pending_peak)
        return {
            "allocation": (self.allocations, self.allocations_peak, self.allocations_total),
            "segment": (self.segments, self.segments_peak, self.segments_total),
            "active": (active_blocks, active_blocks_peak, self.allocations_total),
            "inactive_split": (self.inactive_split, self.inactive_split_peak, self.inactive_split_total),
            "allocated_bytes": (self.allocated_bytes, self.allocated_bytes_peak, self.allocated_bytes_total),
            "reserved_bytes": (self.reserved_bytes, self.reserved_bytes_peak, self.reserved_bytes_total),
            "active_bytes": (self.active_bytes, self.active_bytes_peak, self.allocated_bytes_total),
            "inactive_split_bytes": (
                self.inactive_split_bytes,
                self.inactive_split_bytes_peak,
                self.inactive_split_bytes_total,
            ),
            "requested_bytes": (self.requested_bytes, self.requested_bytes_peak, self.requested_bytes_total),
        }


class OversizeCounter:
    """Blocks or segments of `max_split_size` or more."""

    __slots__ = ("current", "peak", "total")

    def __init__(self) -> None:
        self.current = self.peak = self.total = 0

    def increase(self) -> None:
        """One more."""
        self.current += 1
        self.total += 1
        self.peak = max(self.peak, self.current)


class AllocatorStatistics:
    """Everything `torch.cuda.memory_stats` reports, for one GPU."""

    __slots__ = (
        "all",
        "large_pool",
        "num_alloc_retries",
        "num_device_alloc",
        "num_device_free",
        "num_oom_rejections",
        "num_ooms",
        "num_sync_all_streams",
        "oversize_allocations",
        "oversize_segments",
        "small_pool",
    )

    def __init__(self) -> None:
        self.all, self.small_pool, self.large_pool = PoolStatistics(), PoolStatistics(), PoolStatistics()
        self.oversize_allocations, self.oversize_segments = OversizeCounter(), OversizeCounter()
        self.num_alloc_retries = 0
        """Times the cache was flushed because the driver had no memory left."""
        self.num_ooms = self.num_oom_rejections = 0
        self.num_sync_all_streams = self.num_device_alloc = self.num_device_free = 0

    def reset_peak(self) -> None:
        """`torch.cuda.reset_peak_memory_stats()`."""
        for pool in (self.all, self.small_pool, self.large_pool):
            pool.reset_peak()
        for counter in (self.oversize_allocations, self.oversize_segments):
            counter.peak = counter.current

    def memory_stats(self, max_split_size: int) -> dict[str, int]:
        """The flat dictionary of `torch.cuda.memory_stats()`, keys in its order."""
        stats = {
            "max_split_size": -1 if max_split_size == UNLIMITED else max_split_size,
            "num_alloc_retries": self.num_alloc_retries,
            "num_device_alloc": self.num_device_alloc,
            "num_device_free": self.num_device_free,
            "num_oom_rejections": self.num_oom_rejections,
            "num_ooms": self.num_ooms,
            "num_sync_all_streams": self.num_sync_all_streams,
        }
        for pool_name in ("all", "large_pool", "small_pool"):
            pool: PoolStatistics = getattr(self, pool_name)
            for quantity, values in pool.quantities().items():
                stats.update(_four_metrics(f"{quantity}.{pool_name}", *values))
        for name in ("oversize_allocations", "oversize_segments"):
            counter: OversizeCounter = getattr(self, name)
            stats.update(_four_metrics(name, counter.current, counter.peak, counter.total))
        return dict(sorted(stats.items()))


def _four_metrics(prefix: str, current: int, peak: int, total: int) -> dict[str, int]:
    return {
        f"{prefix}.current": current,
        f"{prefix}.peak": peak,
        f"{prefix}.allocated": total,
        f"{prefix}.freed": total - current,
    }
