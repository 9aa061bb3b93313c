"""The GPU as the allocator sees it: how much memory the driver still has, which addresses are used, and what was
taken and given back."""

from collections.abc import Callable

from vramcast.allocator.blocks import Block, BlockPool
from vramcast.allocator.statistics import AllocatorStatistics
from vramcast.errors import InputError
from vramcast.units import MIB

FIRST_ADDRESS = 0x7F0000000000
_ADDRESS_STEP = 2 * MIB
_UNBOUNDED_RESERVATION = 1 << 44
"""Address space of one expandable segment where the GPU's size is not given; no request reaches it."""

Observer = Callable[[str, int, int, int], None]
"""Called as (action, address, nbytes, stream) with PyTorch's names of trace entries: segment_alloc, segment_free,
segment_map, segment_unmap, oom (address = free bytes of the GPU) and, for frees that had to wait, free_completed."""


class Driver:
    """Memory of one GPU that this process may still take, and the books of what it holds."""

    __slots__ = ("allowed", "capacity", "heads", "next_address", "observer", "statistics", "total")

    def __init__(
        self,
        statistics: AllocatorStatistics,
        capacity: int | None,
        total: int | None,
        fraction: float,
        observer: Observer | None,
    ) -> None:
        self.statistics = statistics
        self.capacity = capacity
        self.total = total
        self.allowed = self._allowed(fraction)
        """Most bytes the allocator may reserve, where a memory fraction is set."""
        self.observer = observer
        self.next_address = FIRST_ADDRESS
        self.heads: dict[int, Block] = {}
        """First block of every segment, by its address."""

    def _allowed(self, fraction: float) -> int | None:
        if fraction >= 1.0:
            return None
        if self.total is None:
            raise InputError("per_process_memory_fraction", fraction, "needs the GPU's memory: give capacity_bytes too")
        return int(fraction * self.total)

    @property
    def free_bytes(self) -> int:
        """Bytes nobody holds; 0 where the capacity is not known."""
        return 0 if self.capacity is None else self.capacity - self.statistics.all.reserved_bytes

    def has(self, nbytes: int) -> bool:
        """Whether the driver can still give `nbytes`."""
        return self.capacity is None or self.statistics.all.reserved_bytes + nbytes <= self.capacity

    def reserve_addresses(self, nbytes: int, alignment: int) -> int:
        """First address of a fresh range; addresses only grow, so that none is ever used twice."""
        address = -(-self.next_address // alignment) * alignment
        self.next_address = -(-(address + nbytes) // _ADDRESS_STEP) * _ADDRESS_STEP
        return address

    def take(self, action: str, address: int, nbytes: int, pool: BlockPool) -> None:
        """Book a `cudaMalloc` or a mapping of pages."""
        self.statistics.all.add_reserved(nbytes)
        pool.statistics.add_reserved(nbytes)
        self.statistics.num_device_alloc += 1
        self.notify(action, address, nbytes, pool.stream)

    def give_back(self, action: str, address: int, nbytes: int, pool: BlockPool) -> None:
        """Book a `cudaFree` or an unmapping of pages."""
        self.statistics.all.reserved_bytes -= nbytes
        pool.statistics.reserved_bytes -= nbytes
        self.statistics.num_device_free += 1
        self.notify(action, address, nbytes, pool.stream)

    def notify(self, action: str, address: int, nbytes: int, stream: int) -> None:
        """Tell the observer, if there is one."""
        if self.observer is not None:
            self.observer(action, address, nbytes, stream)


def reservation_bytes(total: int | None, page: int) -> int:
    """Address space of one expandable segment: 9/8 of the GPU (`total` bytes), in whole pages."""
    wanted = _UNBOUNDED_RESERVATION if total is None else total * 9 // 8
    return -(-wanted // page) * page
