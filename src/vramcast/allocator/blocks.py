"""Blocks of GPU memory and the pools they are cached in.

A segment (one `cudaMalloc`, or one expandable range) is a doubly linked list of blocks that tile it. A pool holds the
free blocks of one stream and one size class. When blocks merge, the one at the lower address survives, so the first
block of a segment keeps its identity.

Source: c10/cuda/CUDACachingAllocator.cpp, structs Block and BlockPool.
"""

from bisect import bisect_left, insort
from typing import Final

from vramcast.allocator.statistics import PoolStatistics
from vramcast.units import MIB

MIN_BLOCK: Final = 512
SMALL_MAX: Final = MIB
SMALL_SEGMENT: Final = 2 * MIB
MIN_LARGE: Final = 10 * MIB
ROUND_LARGE: Final = 2 * MIB

# Plain ints, not an enum: the state is compared several times per event of a replay.
FREE: Final = 0
LIVE: Final = 1
PENDING_FREE: Final = 2
UNMAPPED: Final = 3


class Block:
    """A range of GPU memory: handed out (`LIVE`), cached (`FREE`), freed but still in use on another stream, or
    without pages."""

    __slots__ = ("address", "born", "next", "pool", "prev", "requested", "size", "state")

    address: int
    """First byte; a multiple of 512."""
    size: int
    """Bytes of the block, a multiple of 512: what `allocated_bytes` counts."""
    requested: int
    """Bytes the caller asked for."""
    state: int
    born: int
    """Number of searches in the large pools when the block was last cached; kept only where garbage collection is
    on."""

    def __init__(
        self, address: int, size: int, pool: "BlockPool", prev: "Block | None", next_block: "Block | None"
    ) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.prev = prev
        self.next = next_block
        self.state = FREE

    def __repr__(self) -> str:
        state = ("free", "live", "pending free", "unmapped")[self.state]
        return f"Block({self.address:#x}, {self.size} bytes, {state}, stream {self.pool.stream})"


class BlockPool:
    """Free blocks of one stream and one size class, ordered by (size, address): the first that is large enough is the
    best fit."""

    __slots__ = ("free", "is_small", "min_remainder", "page", "split_limit", "statistics", "stream", "unmapped")

    def __init__(
        self, stream: int, is_small: bool, statistics: PoolStatistics, page: int, min_remainder: int, split_limit: int
    ) -> None:
        self.stream = stream
        self.is_small = is_small
        self.statistics = statistics
        self.page = page
        """Bytes of one mapped page of an expandable segment."""
        self.min_remainder = min_remainder
        """A block is split when at least so many bytes would be left over ..."""
        self.split_limit = split_limit
        """... and the request is smaller than this."""
        self.free: list[tuple[int, int, Block]] = []
        self.unmapped: list[tuple[int, Block]] = []

    def add(self, block: Block) -> None:
        """Cache a free block."""
        insort(self.free, (block.size, block.address, block))

    def remove(self, block: Block) -> None:
        """Take a block out of the cache."""
        del self.free[bisect_left(self.free, (block.size, block.address))]


def is_split(block: Block) -> bool:
    """Whether the block shares its segment with others."""
    return block.prev is not None or block.next is not None


def round_request(nbytes: int, divisions: tuple[int, ...]) -> int:
    """Bytes a request is rounded up to: a multiple of 512, or a step between two powers of two.

    Source: `round_size` and `roundup_power2_next_division` in CUDACachingAllocator.cpp.
    """
    if nbytes < MIN_BLOCK:
        return MIN_BLOCK
    exponent = nbytes.bit_length() - 1
    division = divisions[min(max(exponent - 20, 0), len(divisions) - 1)]
    if division <= 1 or nbytes <= MIN_BLOCK * division:
        return -(-nbytes // MIN_BLOCK) * MIN_BLOCK
    power = 1 << exponent
    if nbytes == power:
        return nbytes
    step = power // division
    return -(-nbytes // step) * step


def segment_size(size: int, large_segment_size: int) -> int:
    """Bytes asked of the driver for a block of `size` (already rounded): `get_allocation_size` in
    CUDACachingAllocator.cpp."""
    if size <= SMALL_MAX:
        return SMALL_SEGMENT
    if size < MIN_LARGE:
        return large_segment_size
    return -(-size // ROUND_LARGE) * ROUND_LARGE
