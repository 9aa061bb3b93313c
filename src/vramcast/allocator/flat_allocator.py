"""The caching allocator of one stream on plain ints: the same blocks as `CachingAllocator`, in a fraction of the time.

Sizes and addresses count units of 512 bytes. A free block is one int with its size in the high bits and its address in
the low ones, so a sorted list of ints is ordered by (size, address) and bisection finds the best fit. Two dictionaries
of the free blocks, end by first unit and first unit by end, are all that merging needs: neighbours in a segment touch,
and segments lie a unit apart so that blocks of two segments never do. The last entry of each list is above every block
and stands for memory that is still the driver's.

Source: alloc_block, free_block and try_merge_blocks in c10/cuda/CUDACachingAllocator.cpp. Settings that are not handled
here are those of `CachingAllocator`.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final, NamedTuple

from vramcast.allocator.blocks import MIN_BLOCK, SMALL_MAX, Block
from vramcast.allocator.config import AllocatorConfig
from vramcast.errors import InputError

ADDRESS_BITS: Final = 56
ADDRESS_MASK: Final = (1 << ADDRESS_BITS) - 1
MOST_UNITS: Final = 1 << 53
"""All memory that is ever taken from the driver has to stay below this, so that addresses keep to their bits."""
SMALL_UNITS: Final = SMALL_MAX // MIN_BLOCK
ONE_UNIT: Final = 1 << ADDRESS_BITS
"""What is left over of a block that is split, at least: in the small pool ..."""
MORE_THAN_SMALL: Final = (SMALL_UNITS + 1) << ADDRESS_BITS
"""... and in the large pool of native segments."""


class Requests(NamedTuple):
    """Sizes asked for, rounded up to blocks."""

    units: list[int]
    keys: list[int]
    """The least free block that would do."""

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "Requests":
        """From bytes; sizes recur, so each is rounded once."""
        units = {size: -(-size // MIN_BLOCK) for size in set(sizes)}
        keys = {size: count << ADDRESS_BITS for size, count in units.items()}
        return cls(list(map(units.__getitem__, sizes)), list(map(keys.__getitem__, sizes)))


class FlatAllocator(ABC):
    """Blocks of one stream and the books of their replay; `grow` decides where more memory comes from.

    Args:
        config: settings of the allocator.
        capacity_bytes: bytes it may reserve; None = no limit.
        top: last entry of the lists of free blocks, small and large pool.
        large_remainder: least rest of a block of the large pool that is split off, as a key.
    """

    def __init__(
        self, config: AllocatorConfig, capacity_bytes: int | None, top: tuple[int, int], large_remainder: int
    ) -> None:
        self.config, self.capacity_bytes = config, capacity_bytes
        self.num_events = self.num_alloc_retries = 0
        self.units_allocated = self.peak_units = self.peak_position = 0
        self.interval_peak_units = 0
        self.reserved_bytes = self.peak_reserved_bytes = self.peak_reserved_position = 0
        self.blocks_made: list[int] = []
        """Units of every block handed out, in order."""
        self.small, self.large = [top[0]], [top[1]]
        self.end_of: dict[int, int] = {}
        self.start_of: dict[int, int] = {}
        self.limit = min(top)
        """A free block from here on is not handed out without asking `grow`."""
        self._large_remainder = large_remainder

    @abstractmethod
    def grow(self, free: list[int], key: int, allocated: int, position: int) -> int:
        """Index in `free` of the block to hand out, where the best fit is not below `limit`.

        Raises:
            AllocatorOutOfMemory: no memory, even after the cache was flushed.
        """

    @abstractmethod
    def adopt(self, segment: Block, starts: dict[Block, int]) -> None:
        """Copy a segment of `CachingAllocator`, given by its first block; `starts` gets the first unit of each block
        that is not free. Books are left alone.

        Raises:
            FullSimulationNeeded: the segment has holes or is a second range of its pool.
        """

    def run(self, events: Sequence[int], requests: Requests, starts: list[int | None], blocks: list[int]) -> None:
        """Replay more events: i makes allocation i, ~i frees it.

        Args:
            events: indices or their complements, in order.
            requests: what each index asks for.
            starts: first unit of the block each index holds, 0 where it asked for nothing, None where it holds none;
                kept up to date.
            blocks: units of the block each index holds or held last; kept up to date.

        Raises:
            InputError: an index is made while it is alive, or freed while it is not.
            AllocatorOutOfMemory: no memory; `num_events` counts the request that failed.
        """
        # One loop with everything in local variables: calls and attributes would double its time.
        small, large, end_of, start_of = self.small, self.large, self.end_of, self.start_of
        all_units, keys = requests
        large_remainder, limit, note_block = self._large_remainder, self.limit, self.blocks_made.append
        position, reached = self.num_events - 1, 0
        allocated = highest = self.units_allocated
        try:
            for position, index in enumerate(events, self.num_events):
                if index >= 0:
                    if starts[index] is not None:
                        raise _made_again(index, position)
                    units = all_units[index]
                    if units > SMALL_UNITS:
                        free, remainder = large, large_remainder
                    elif units:
                        free, remainder = small, ONE_UNIT
                    else:
                        starts[index] = blocks[index] = 0
                        note_block(0)
                        continue
                    key = keys[index]
                    at = bisect_left(free, key)
                    if free[at] >= limit:
                        at = self.grow(free, key, allocated, position)
                        limit = self.limit
                    found = free.pop(at)
                    start = found & ADDRESS_MASK
                    end = end_of.pop(start)
                    rest = found - key
                    if rest >= remainder:
                        middle = start + units
                        insort(free, rest + units)
                        end_of[middle] = end
                        start_of[end] = middle
                    else:
                        del start_of[end]
                        units = end - start
                    starts[index] = start
                    blocks[index] = units
                    note_block(units)
                    allocated += units
                    if allocated > highest:
                        highest, reached = allocated, position
                else:
                    index = ~index
                    first = starts[index]
                    if first is None:
                        raise InputError("events", index, "freed or used while it is not alive")
                    starts[index] = None
                    units = blocks[index]
                    if not units:
                        continue
                    free = large if units > SMALL_UNITS else small
                    allocated -= units
                    end = first + units
                    if end in end_of:
                        middle, end = end, end_of.pop(end)
                        del free[bisect_left(free, (end - middle << ADDRESS_BITS) + middle)]
                    if first in start_of:
                        middle, first = first, start_of.pop(first)
                        del free[bisect_left(free, (middle - first << ADDRESS_BITS) + first)]
                    end_of[first] = end
                    start_of[end] = first
                    insort(free, (end - first << ADDRESS_BITS) + first)
        finally:
            self.num_events = position + 1
            self.units_allocated, self.interval_peak_units = allocated, highest
            if highest > self.peak_units:
                self.peak_units, self.peak_position = highest, reached

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the blocks that are handed out."""
        return self.units_allocated * MIN_BLOCK

    @property
    def peak_allocated_bytes(self) -> int:
        """Most bytes of blocks handed out at once."""
        return self.peak_units * MIN_BLOCK

    @property
    def interval_peak_bytes(self) -> int:
        """Most bytes of blocks handed out during the last `run`, its beginning included."""
        return self.interval_peak_units * MIN_BLOCK

    def has(self, nbytes: int) -> bool:
        """Whether the driver can still give `nbytes`."""
        return self.capacity_bytes is None or self.reserved_bytes + nbytes <= self.capacity_bytes

    def take(self, nbytes: int, position: int) -> None:
        """Book memory taken from the driver."""
        self.reserved_bytes += nbytes
        if self.reserved_bytes > self.peak_reserved_bytes:
            self.peak_reserved_bytes, self.peak_reserved_position = self.reserved_bytes, position

    def add_free(self, free: list[int], start: int, end: int) -> None:
        """Put a free block into a pool."""
        self.end_of[start] = end
        self.start_of[end] = start
        insort(free, (end - start << ADDRESS_BITS) + start)


def _made_again(index: int, position: int) -> InputError:
    return InputError("events", index, f"allocation is made again at event {position} while it is alive")
