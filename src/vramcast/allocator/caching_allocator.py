"""PyTorch's CUDA caching allocator, simulated: the same blocks, splits, merges and flushes, without a GPU.

Source: DeviceCachingAllocator in c10/cuda/CUDACachingAllocator.cpp. Not simulated: private pools of CUDA graphs and
`torch.cuda.MemPool`, memory shared between processes, and free-memory callbacks that an extension may register.
"""

from bisect import bisect_left, insort
from typing import Final

from vramcast.allocator.blocks import (
    FREE,
    LIVE,
    MIN_BLOCK,
    PENDING_FREE,
    SMALL_MAX,
    SMALL_SEGMENT,
    UNMAPPED,
    Block,
    BlockPool,
    round_request,
    segment_size,
)
from vramcast.allocator.config import UNLIMITED, AllocatorConfig
from vramcast.allocator.deferred_frees import DeferredFree, DeferredFrees
from vramcast.allocator.driver import Driver, Observer
from vramcast.allocator.expandable import ExpandableSegments
from vramcast.allocator.native import NativeSegments
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.segments import SegmentSource
from vramcast.allocator.statistics import AllocatorStatistics
from vramcast.errors import InputError

_MASK: Final = -MIN_BLOCK
_SLACK: Final = MIN_BLOCK - 1


class CachingAllocator:
    """One GPU's allocator.

    Args:
        config: settings of the allocator; PyTorch's defaults where not given.
        capacity_bytes: what the driver can give this process; None = no limit, which shows the natural peak of
            reserved memory.
        total_bytes: the GPU's whole memory, of which a memory fraction is a share; None = `capacity_bytes`.
        deferred_free: when the free of a block in use on another stream completes, see `DeferredFrees`.
            `"immediate"`: by the next malloc; `"ahead"`: once the CPU has waited for it. Real runs lie between the
            two.
        observer: called with every segment taken or given back, see `Observer`.

    Raises:
        InputError: a memory fraction without a capacity, an unknown policy, or a capacity below one byte.
    """

    def __init__(
        self,
        config: AllocatorConfig | None = None,
        capacity_bytes: int | None = None,
        *,
        total_bytes: int | None = None,
        deferred_free: DeferredFree = "immediate",
        observer: Observer | None = None,
    ) -> None:
        if capacity_bytes is not None and capacity_bytes <= 0:
            raise InputError("capacity_bytes", capacity_bytes, "must be larger than zero, or None for no limit")
        self.config = config = AllocatorConfig() if config is None else config
        self.statistics = AllocatorStatistics()
        total = capacity_bytes if total_bytes is None else total_bytes
        self.driver = Driver(self.statistics, capacity_bytes, total, config.per_process_memory_fraction, observer)
        self._native = not config.expandable_segments
        self._source: SegmentSource = (
            NativeSegments(config, self.driver) if self._native else ExpandableSegments(self.driver)
        )
        self._deferred = DeferredFrees(deferred_free)
        self._pending, self._uses = self._deferred.pending, self._deferred.uses
        self._all = self.statistics.all
        self._small_pools: dict[int, BlockPool] = {}
        self._large_pools: dict[int, BlockPool] = {}
        self._has_oversize = config.max_split_size != UNLIMITED
        self._rounds_to_divisions = max(config.roundup_power2_divisions) > 1
        self._collects_garbage = self.driver.allowed is not None and config.garbage_collection_threshold > 0
        self._first_fit_is_best = self._native and not self._has_oversize and not self._collects_garbage
        self._large_searches = 0

    def malloc(self, nbytes: int, stream: int = 0) -> Block | None:
        """Hand out a block for `nbytes` on `stream`; None for 0 bytes, which never reach the allocator.

        Raises:
            AllocatorOutOfMemory: no memory, even after the cache was flushed.
        """
        if nbytes <= 0:
            _check_not_negative(nbytes)
            return None
        pending = self._pending
        if pending:
            self.process_events()
        size = self._rounded(nbytes) if self._rounds_to_divisions else (nbytes + _SLACK) & _MASK
        pools = self._small_pools if size <= SMALL_MAX else self._large_pools
        pool = pools[stream] if stream in pools else self._new_pool(stream, size)
        free = pool.free
        index = bisect_left(free, (size,))
        if self._first_fit_is_best and index < len(free):
            block = free.pop(index)[2]
        else:
            block = self._find(pool, size, index) or self._grow_or_raise(pool, size)
        rest = block.size - size
        if rest >= pool.min_remainder and size < pool.split_limit:
            self._split(block, size, rest)
        else:
            size = block.size
            if self._native and (block.prev is not None or block.next is not None):
                self._all.inactive_split -= 1
                self._all.inactive_split_bytes -= size
                pool.statistics.inactive_split -= 1
                pool.statistics.inactive_split_bytes -= size
        block.state, block.requested = LIVE, nbytes
        self._all.count_malloc(size, nbytes)
        pool.statistics.count_malloc(size, nbytes)
        if pending:
            self._all.note_active_peak()
            pool.statistics.note_active_peak()
        if self._has_oversize and size >= self.config.max_split_size:
            self.statistics.oversize_allocations.increase()
        return block

    def free(self, block: Block | None) -> None:
        """Take a block back; None, the block of 0 bytes, is ignored.

        Allocated memory drops at once. A block in use on another stream stays active, and is reusable only once that
        use is over.

        Raises:
            InputError: the block was freed before.
        """
        if block is None:
            return
        if block.state != LIVE:
            raise InputError("block", block, "only a block that malloc returned can be freed, and only once")
        counts, size = block.pool.statistics, block.size
        self._all.allocations -= 1
        self._all.allocated_bytes -= size
        counts.allocations -= 1
        counts.allocated_bytes -= size
        if self._has_oversize and size >= self.config.max_split_size:
            self.statistics.oversize_allocations.current -= 1
        if self._uses and block in self._uses:
            block.state = PENDING_FREE
            self._deferred.defer(block)
            for totals in (self._all, counts):
                totals.pending_blocks += 1
                totals.pending_bytes += size
        else:
            self._cache(block)

    def record_stream(self, block: Block | None, stream: int) -> None:
        """`tensor.record_stream(stream)`: once freed, the block waits until `stream` is through with it."""
        if block is None:
            return
        if block.state != LIVE:
            raise InputError("block", block, "record_stream needs a block that is not freed")
        self._deferred.use(block, stream)

    def record_event(self, event_id: int, stream: int = 0) -> None:
        """`event.record(stream)`: the event stands behind everything issued so far."""
        self._deferred.record_event(event_id)

    def stream_wait_event(self, event_id: int, stream: int = 0) -> None:
        """`stream.wait_event(event)`: orders two streams on the GPU; the CPU learns nothing, so no pending free
        completes."""

    def host_wait_event(self, event_id: int) -> None:
        """`event.synchronize()`: the CPU waits until the GPU has passed the event."""
        self._deferred.host_wait_event(event_id)

    def host_wait_stream(self, stream: int) -> None:
        """`stream.synchronize()`, `.item()`: work issued up to now is done, since the GPU finishes in the order of
        issue."""
        self._deferred.host_wait_all()

    def synchronize(self) -> None:
        """`torch.cuda.synchronize()`: the GPU is idle. Pending frees complete at the next malloc, as in PyTorch."""
        self._deferred.host_wait_all()

    def process_events(self) -> None:
        """Complete the pending frees that the GPU is through with; every malloc begins with it."""
        for block in self._deferred.pop_completed():
            for counts in (self._all, block.pool.statistics):
                counts.pending_blocks -= 1
                counts.pending_bytes -= block.size
            self.driver.notify("free_completed", block.address, block.requested, block.pool.stream)
            self._cache(block)

    def empty_cache(self) -> None:
        """`torch.cuda.empty_cache()`: wait for the GPU and give back all memory that no live block holds on to."""
        self._release_cached()

    def reset_peak_stats(self) -> None:
        """`torch.cuda.reset_peak_memory_stats()`: every peak becomes the current value."""
        self.statistics.reset_peak()

    def memory_stats(self) -> dict[str, int]:
        """`torch.cuda.memory_stats()`: the same keys, in the same order."""
        return self.statistics.memory_stats(self.config.max_split_size)

    @property
    def streams(self) -> set[int]:
        """Streams that memory was asked for on."""
        return {*self._small_pools, *self._large_pools}

    @property
    def has_other_uses(self) -> bool:
        """Whether a block is in use on a stream that is not its own, be it freed or not."""
        return bool(self._pending or self._uses)

    def _rounded(self, nbytes: int) -> int:
        return round_request(nbytes, self.config.roundup_power2_divisions)

    def _new_pool(self, stream: int, size: int) -> BlockPool:
        config, is_small = self.config, size <= SMALL_MAX
        statistics = self.statistics.small_pool if is_small else self.statistics.large_pool
        page = SMALL_SEGMENT if is_small else config.large_segment_size
        if is_small or not self._native:
            pool = BlockPool(stream, is_small, statistics, page, min_remainder=MIN_BLOCK, split_limit=UNLIMITED)
        else:
            pool = BlockPool(stream, False, statistics, page, SMALL_MAX + 1, config.max_split_size)
        pools = self._small_pools if is_small else self._large_pools
        pools[stream] = pool
        return pool

    def _find(self, pool: BlockPool, size: int, index: int) -> Block | None:
        """The best cached block, from position `index` of the pool's free list on; None sends the request to the
        driver."""
        free = pool.free
        if self._collects_garbage and not pool.is_small:
            self._large_searches += 1
        if index >= len(free):
            return None
        if not self._native:
            index = _least_expandable(pool, index)
        found = free[index][0]
        limit = self.config.max_split_size
        rounding = self.config.max_non_split_rounding or self.config.large_segment_size
        if (size < limit <= found) or (size >= limit and found >= size + rounding):
            return None
        return free.pop(index)[2]

    def _grow_or_raise(self, pool: BlockPool, size: int) -> Block:
        """A block from fresh memory, after as little giving back as is needed."""
        if self._collects_garbage:
            self._source.collect_garbage(self._large_pools.values(), self._large_searches)
        block = self._grow(pool, size)
        if block is None and self._has_oversize and self._source.release_available(pool, size):
            block = self._grow(pool, size)
        if block is None:
            self._release_cached()
            self.statistics.num_alloc_retries += 1
            block = self._grow(pool, size)
        if block is None:
            self.statistics.num_ooms += 1
            raise self._out_of_memory(pool, size)
        return block

    def _grow(self, pool: BlockPool, size: int) -> Block | None:
        nbytes, allowed = segment_size(size, self.config.large_segment_size), self.driver.allowed
        if allowed is not None and self._all.reserved_bytes + nbytes > allowed:
            if self.config.throw_on_cudamalloc_oom:
                self.statistics.num_oom_rejections += 1
                raise self._out_of_memory(pool, size)
            return None
        return self._source.grow(pool, size)

    def _out_of_memory(self, pool: BlockPool, size: int) -> AllocatorOutOfMemory:
        driver = self.driver
        driver.notify("oom", driver.free_bytes, size, pool.stream)
        return AllocatorOutOfMemory(
            requested_bytes=size,
            allocated_bytes=self._all.allocated_bytes,
            reserved_bytes=self._all.reserved_bytes,
            free_bytes=driver.free_bytes,
            capacity_bytes=driver.capacity,
            allowed_bytes=driver.allowed,
        )

    def _release_cached(self) -> None:
        self.statistics.num_sync_all_streams += 1
        self._deferred.host_wait_all()
        self.process_events()
        for pools in (self._large_pools, self._small_pools):
            self._source.release_cached(pools.values())

    def _split(self, block: Block, size: int, rest: int) -> None:
        """Keep the low `size` bytes for the request; the rest goes back to the pool."""
        pool, following = block.pool, block.next
        tail = Block(block.address + size, rest, pool, block, following)
        if self._native:
            if following is None and block.prev is None:
                self._all.change_inactive_split(1, rest)
                pool.statistics.change_inactive_split(1, rest)
            else:
                self._all.inactive_split_bytes -= size
                pool.statistics.inactive_split_bytes -= size
        if following is not None:
            following.prev = tail
        block.next = tail
        block.size = size
        if self._collects_garbage:
            tail.born = self._large_searches
        insort(pool.free, (rest, tail.address, tail))

    def _cache(self, block: Block) -> None:
        """Put a block back into its pool, merged with its free neighbours."""
        pool, counts = block.pool, block.pool.statistics
        self._all.requested_bytes -= block.requested
        counts.requested_bytes -= block.requested
        free, size, merged, merged_bytes = pool.free, block.size, 0, 0
        block.state = FREE
        following = block.next
        if following is not None and following.state == FREE:
            del free[bisect_left(free, (following.size, following.address))]
            block.next = following.next
            if following.next is not None:
                following.next.prev = block
            size += following.size
            merged, merged_bytes = 1, following.size
        prev = block.prev
        if prev is not None and prev.state == FREE:
            del free[bisect_left(free, (prev.size, prev.address))]
            prev.next = block.next
            if block.next is not None:
                block.next.prev = prev
            size += prev.size
            merged, merged_bytes = merged + 1, merged_bytes + prev.size
            block = prev
        block.size = size
        if self._collects_garbage:
            block.born = self._large_searches
        insort(free, (size, block.address, block))
        if self._native:
            if block.prev is not None or block.next is not None:
                merged, merged_bytes = merged - 1, merged_bytes - size
            self._all.change_inactive_split(-merged, -merged_bytes)
            counts.change_inactive_split(-merged, -merged_bytes)


def _check_not_negative(nbytes: int) -> None:
    if nbytes < 0:
        raise InputError("nbytes", nbytes, "a request cannot be smaller than 0 bytes")


def _least_expandable(pool: BlockPool, index: int) -> int:
    """Position of the best fit where blocks beside unmapped memory count with the size they could grow to."""

    def room(position: int) -> int:
        block = pool.free[position][2]
        following = block.next
        return block.size + (following.size if following is not None and following.state == UNMAPPED else 0)

    while index + 1 < len(pool.free) and room(index + 1) < room(index):
        index += 1
    return index
