"""Where a flat allocator's memory comes from: native segments, or one expandable range for each pool.

Source: alloc_block, release_cached_blocks and map_block in c10/cuda/CUDACachingAllocator.cpp.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from vramcast.allocator.blocks import FREE, MIN_BLOCK, SMALL_SEGMENT, UNMAPPED, Block, segment_size
from vramcast.allocator.config import AllocatorConfig
from vramcast.allocator.driver import reservation_bytes
from vramcast.allocator.flat_allocator import (
    ADDRESS_BITS,
    ADDRESS_MASK,
    MORE_THAN_SMALL,
    MOST_UNITS,
    ONE_UNIT,
    FlatAllocator,
)
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory

_BEYOND: Final = 1 << 2 * ADDRESS_BITS
_BASES: Final = (1, 2 * MOST_UNITS)
"""First unit of the expandable range of either pool, small and large: so far apart that their ends never meet."""


class FullSimulationNeeded(Exception):
    """An expandable range is full, or has to give pages back, which leaves holes: only `CachingAllocator` does that."""


class FlatNativeAllocator(FlatAllocator):
    """Memory from `cudaMalloc`, in segments of 2 MiB, 20 MiB or a multiple of 2 MiB."""

    def __init__(self, config: AllocatorConfig, capacity_bytes: int | None) -> None:
        super().__init__(config, capacity_bytes, (_BEYOND, _BEYOND), MORE_THAN_SMALL)
        self._segments: dict[int, int] = {}
        """End of every segment by its first unit."""
        self._next_unit = 1

    def grow(self, free: list[int], key: int, allocated: int, position: int) -> int:
        """One new segment, if need be after giving back every segment that is one free block."""
        size = (key >> ADDRESS_BITS) * MIN_BLOCK
        nbytes = segment_size(size, self.config.large_segment_size)
        if not self.has(nbytes):
            self._release_cached()
            self.num_alloc_retries += 1
            if not self.has(nbytes):
                raise self._out_of_memory(size, allocated)
        self.take(nbytes, position)
        start, end = self._next_unit, self._next_unit + nbytes // MIN_BLOCK
        self._add_segment(start, end)
        self.add_free(free, start, end)
        return bisect_left(free, key)

    def adopt(self, segment: Block, starts: dict[Block, int]) -> None:
        """See `FlatAllocator`."""
        begin = end = self._next_unit
        for block in _blocks_from(segment):
            start, end = end, end + block.size // MIN_BLOCK
            if block.state == FREE:
                self.add_free(self.small if block.pool.is_small else self.large, start, end)
            else:
                starts[block] = start
        self._add_segment(begin, end)

    def _add_segment(self, start: int, end: int) -> None:
        self._segments[start] = end
        self._next_unit = end + 1

    def _release_cached(self) -> None:
        for free in (self.large, self.small):
            for key in free[:-1]:
                start = key & ADDRESS_MASK
                end = self.end_of[start]
                if self._segments.get(start) == end:
                    del self._segments[start], self.end_of[start], self.start_of[end]
                    del free[bisect_left(free, key)]
                    self.reserved_bytes -= (end - start) * MIN_BLOCK

    def _out_of_memory(self, size: int, allocated: int) -> AllocatorOutOfMemory:
        assert self.capacity_bytes is not None
        return AllocatorOutOfMemory(
            requested_bytes=size,
            allocated_bytes=allocated * MIN_BLOCK,
            reserved_bytes=self.reserved_bytes,
            free_bytes=self.capacity_bytes - self.reserved_bytes,
            capacity_bytes=self.capacity_bytes,
            allowed_bytes=None,
        )


class FlatExpandableAllocator(FlatAllocator):
    """One range for each pool, mapped from its low end on while the driver has memory.

    The last entry of a list of free blocks is the free memory at the end of the mapped pages together with everything
    unmapped behind it. PyTorch too counts a free block before unmapped memory with the size it could grow to, so it is
    the last choice there as well, unless another free block is at least as large as that (`limit`).
    """

    def __init__(self, config: AllocatorConfig, capacity_bytes: int | None) -> None:
        super().__init__(config, capacity_bytes, (_last_entry(0, _BASES[0]), _last_entry(1, _BASES[1])), ONE_UNIT)
        for base in _BASES:
            self.end_of[base], self.start_of[base + MOST_UNITS] = base + MOST_UNITS, base
        self._pages = (SMALL_SEGMENT // MIN_BLOCK, config.large_segment_size // MIN_BLOCK)
        self._mapped = list(_BASES)
        """First unmapped unit of either pool."""
        self._range_ends = [
            base + reservation_bytes(capacity_bytes, page * MIN_BLOCK) // MIN_BLOCK
            for base, page in zip(_BASES, self._pages, strict=True)
        ]
        self._set_limit()

    def adopt(self, segment: Block, starts: dict[Block, int]) -> None:
        """See `FlatAllocator`."""
        pool = int(not segment.pool.is_small)
        free, base = (self.small, self.large)[pool], _BASES[pool]
        if self._mapped[pool] != base:
            raise FullSimulationNeeded
        *mapped, unmapped = _blocks_from(segment)
        if not mapped or unmapped.state != UNMAPPED or any(block.state == UNMAPPED for block in mapped):
            raise FullSimulationNeeded
        self._mapped[pool] += sum(block.size for block in mapped) // MIN_BLOCK
        last = self._mapped[pool]
        if mapped and mapped[-1].state == FREE:
            last -= mapped.pop().size // MIN_BLOCK
        del self.end_of[base]
        self.end_of[last], self.start_of[base + MOST_UNITS] = base + MOST_UNITS, last
        free[-1] = _last_entry(pool, last)
        end = base
        for block in mapped:
            start, end = end, end + block.size // MIN_BLOCK
            if block.state == FREE:
                self.add_free(free, start, end)
            else:
                starts[block] = start
        self._set_limit()

    def grow(self, free: list[int], key: int, allocated: int, position: int) -> int:
        """The last entry, with as many pages mapped as are missing, or a block as large as it could grow.

        Raises:
            FullSimulationNeeded: the driver has no more, or the range ends.
        """
        pool, last = int(free is self.large), len(free) - 1
        first, units = free[last] & ADDRESS_MASK, key >> ADDRESS_BITS
        at = bisect_left(free, key)
        if at < last and not self._prefers_last(free[at], first, units, pool):
            return at
        page = self._pages[pool]
        missing = -(-(first + units - self._mapped[pool]) // page) * page
        if missing > 0:
            self._mapped[pool] += missing
            if not self.has(missing * MIN_BLOCK) or self._mapped[pool] > self._range_ends[pool]:
                raise FullSimulationNeeded
            self.take(missing * MIN_BLOCK, position)
            self._set_limit()
        return last

    def _prefers_last(self, other: int, first: int, units: int, pool: int) -> bool:
        """Whether the mapped part of the last entry, from unit `first` on, comes before `other` in (size, address) and
        could not grow larger than it."""
        mapped = self._mapped[pool] - first
        fits_better = units <= mapped and (mapped << ADDRESS_BITS) + first < other
        return fits_better and other >> ADDRESS_BITS >= self._range_ends[pool] - first

    def _set_limit(self) -> None:
        unmapped = (end - first for end, first in zip(self._range_ends, self._mapped, strict=True))
        self.limit = min(unmapped) << ADDRESS_BITS


def _last_entry(pool: int, first: int) -> int:
    """From unit `first` to the end of the pool's addresses."""
    return (_BASES[pool] + MOST_UNITS - first << ADDRESS_BITS) + first


def _blocks_from(block: Block | None) -> Iterator[Block]:
    while block is not None:
        yield block
        block = block.next
