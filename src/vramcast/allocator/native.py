"""Native segments: one `cudaMalloc` each, given back only whole.

Source: alloc_block, release_available_cached_blocks, garbage_collect_cached_blocks and release_block in
c10/cuda/CUDACachingAllocator.cpp.
"""

from bisect import bisect_left
from collections.abc import Iterable

from vramcast.allocator.blocks import ROUND_LARGE, Block, BlockPool, is_split, segment_size
from vramcast.allocator.config import AllocatorConfig
from vramcast.allocator.driver import Driver
from vramcast.allocator.segments import SegmentSource


class NativeSegments(SegmentSource):
    """Memory from `cudaMalloc`, in segments of 2 MiB, 20 MiB or a multiple of 2 MiB."""

    def __init__(self, config: AllocatorConfig, driver: Driver) -> None:
        self._config = config
        self._driver = driver

    def grow(self, pool: BlockPool, size: int) -> Block | None:
        """One new segment."""
        nbytes = segment_size(size, self._config.large_segment_size)
        driver = self._driver
        if not driver.has(nbytes):
            return None
        block = Block(driver.reserve_addresses(nbytes, ROUND_LARGE), nbytes, pool, None, None)
        driver.heads[block.address] = block
        driver.statistics.all.add_segment()
        pool.statistics.add_segment()
        if nbytes >= self._config.max_split_size:
            driver.statistics.oversize_segments.increase()
        driver.take("segment_alloc", block.address, nbytes, pool)
        return block

    def release_cached(self, pools: Iterable[BlockPool]) -> None:
        """`cudaFree` of every segment that is one free block."""
        for pool in pools:
            for _, _, block in list(pool.free):
                if not is_split(block):
                    self._release(block)

    def release_available(self, pool: BlockPool, size: int) -> bool:
        """One free block of at least max(size, max_split_size), or else the largest oversize ones until they add up
        to it."""
        target = max(size, self._config.max_split_size)
        index = bisect_left(pool.free, (target,))
        if index < len(pool.free):
            self._release(pool.free[index][2])
            return True
        released = 0
        while released < target and index > 0 and pool.free[index - 1][0] >= self._config.max_split_size:
            index -= 1
            released += pool.free[index][0]
            self._release(pool.free[index][2])
        return released >= target

    def collect_garbage(self, pools: Iterable[BlockPool], searches: int) -> None:
        """Rounds of giving back whole segments that are at least as old as the average, while any is found and more
        is needed."""
        assert self._driver.allowed is not None
        threshold = int(self._config.garbage_collection_threshold * self._driver.allowed)
        excess = self._driver.statistics.all.reserved_bytes - threshold
        candidates = [block for pool in pools for _, _, block in pool.free if not is_split(block)]
        while excess > 0 and candidates:
            average_age = sum(searches - block.born for block in candidates) / len(candidates)
            old = [block for block in candidates if searches - block.born >= average_age]
            candidates = [block for block in candidates if searches - block.born < average_age]
            for block in old:
                excess -= block.size
                self._release(block)

    def _release(self, block: Block) -> None:
        pool, driver = block.pool, self._driver
        pool.remove(block)
        del driver.heads[block.address]
        driver.statistics.all.segments -= 1
        pool.statistics.segments -= 1
        if block.size >= self._config.max_split_size:
            driver.statistics.oversize_segments.current -= 1
        driver.give_back("segment_free", block.address, block.size, pool)
