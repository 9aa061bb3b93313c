"""Expandable segments: one reserved address range per stream and pool, with pages mapped and unmapped as needed.

Source: find_expandable_block, map_block, try_allocate_expandable_block and unmap_block in
c10/cuda/CUDACachingAllocator.cpp.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from vramcast.allocator.blocks import FREE, UNMAPPED, Block, BlockPool, is_split
from vramcast.allocator.driver import Driver, reservation_bytes
from vramcast.allocator.segments import SegmentSource


class ExpandableSegments(SegmentSource):
    """Memory from `cuMemMap`, in pages of 2 MiB (small pool) or `large_segment_size` (large pool)."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def grow(self, pool: BlockPool, size: int) -> Block | None:
        """The lowest run of free and unmapped blocks that holds `size`, with its missing pages mapped."""
        block = self._lowest_run(pool, size)
        if block is not None and block.state == UNMAPPED:
            block = self._map(block, min(block.size, size))
        while block is not None and block.size < size:
            unmapped = block.next
            assert unmapped is not None
            block = self._map(unmapped, min(size - block.size, unmapped.size))
        if block is not None:
            pool.remove(block)
        return block

    def release_cached(self, pools: Iterable[BlockPool]) -> None:
        """Unmap every whole page inside the free blocks, and drop ranges without any page left."""
        for pool in pools:
            for _, _, block in list(pool.free):
                self._unmap(block)

    def release_available(self, pool: BlockPool, size: int) -> bool:
        """Nothing: PyTorch leaves expandable segments to the full flush."""
        return False

    def collect_garbage(self, pools: Iterable[BlockPool], searches: int) -> None:
        """Nothing: PyTorch collects native segments only."""

    def _lowest_run(self, pool: BlockPool, size: int) -> Block | None:
        for _, unmapped in pool.unmapped:
            prev = unmapped.prev
            first = prev if prev is not None and prev.state == FREE else unmapped
            if _run_holds(first, size):
                return first
        nbytes = reservation_bytes(self._driver.total, pool.page)
        if size > nbytes:
            return None
        block = Block(self._driver.reserve_addresses(nbytes, pool.page), nbytes, pool, None, None)
        block.state = UNMAPPED
        self._driver.heads[block.address] = block
        insort(pool.unmapped, (block.address, block))
        return block

    def _map(self, block: Block, wanted: int) -> Block | None:
        """Map the first pages of an unmapped block; returns the cached block they became part of, None without
        memory."""
        pool = block.pool
        nbytes = -(-wanted // pool.page) * pool.page
        if not self._driver.has(nbytes):
            return None
        _forget_unmapped(block)
        if nbytes < block.size:
            rest = _cut(block, nbytes)
            rest.state = UNMAPPED
            insort(pool.unmapped, (rest.address, rest))
        address = block.address
        block.state = FREE
        prev, following = block.prev, block.next
        if prev is not None and prev.state == FREE:
            pool.remove(prev)
            block = _join(prev, block)
        if following is not None and following.state == FREE:
            pool.remove(following)
            _join(block, following)
        pool.add(block)
        self._driver.take("segment_map", address, nbytes, pool)
        return block

    def _unmap(self, block: Block) -> None:
        """Give back the whole pages inside a free block; what is left of it on either side stays cached."""
        pool, page = block.pool, block.pool.page
        begin = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if begin >= end:
            return
        pool.remove(block)
        if end < block.address + block.size:
            pool.add(_cut(block, end - block.address))
        hole = block
        if begin > block.address:
            hole = _cut(block, begin - block.address)
            pool.add(block)
        hole.state = UNMAPPED
        prev, following = hole.prev, hole.next
        if following is not None and following.state == UNMAPPED:
            _forget_unmapped(following)
            _join(hole, following)
        if prev is not None and prev.state == UNMAPPED:
            _forget_unmapped(prev)
            hole = _join(prev, hole)
        if is_split(hole):
            insort(pool.unmapped, (hole.address, hole))
        else:
            del self._driver.heads[hole.address]
        self._driver.give_back("segment_unmap", begin, end - begin, pool)


def _run_holds(block: Block | None, size: int) -> bool:
    room = 0
    while room < size and block is not None and block.state in (FREE, UNMAPPED):
        room += block.size
        block = block.next
    return room >= size


def _cut(block: Block, size: int) -> Block:
    """Keep the first `size` bytes of a block; returns a new block for the rest."""
    rest = Block(block.address + size, block.size - size, block.pool, block, block.next)
    if block.next is not None:
        block.next.prev = rest
    block.next = rest
    block.size = size
    return rest


def _join(lower: Block, upper: Block) -> Block:
    """Merge two neighbours into the lower one."""
    lower.size += upper.size
    lower.next = upper.next
    if upper.next is not None:
        upper.next.prev = lower
    return lower


def _forget_unmapped(block: Block) -> None:
    unmapped = block.pool.unmapped
    del unmapped[bisect_left(unmapped, (block.address,))]
