"""How a pool gets more memory from the driver: what native and expandable segments have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from vramcast.allocator.blocks import Block, BlockPool


class SegmentSource(ABC):
    """Where blocks come from when no cached one fits, and where they go when the cache is flushed."""

    @abstractmethod
    def grow(self, pool: BlockPool, size: int) -> Block | None:
        """A free block of at least `size` bytes that is in no pool, from fresh memory; None when the driver has no
        more."""

    @abstractmethod
    def release_cached(self, pools: Iterable[BlockPool]) -> None:
        """Give back everything that no live block shares a segment (native) or a page (expandable) with."""

    @abstractmethod
    def release_available(self, pool: BlockPool, size: int) -> bool:
        """Give back just enough oversize blocks for a request of `size`; False when there are not enough."""

    @abstractmethod
    def collect_garbage(self, pools: Iterable[BlockPool], searches: int) -> None:
        """Give back the blocks that were not used for longest, until reserved memory is below the threshold."""
