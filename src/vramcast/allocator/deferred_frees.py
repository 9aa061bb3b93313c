"""Frees that wait for another stream: which blocks, and when the GPU is through with them.

A block that `record_stream` marked as used elsewhere is not reusable when it is freed: an event is recorded on every
such stream, and the block stays active until those events are done. Whether they are done depends on how far the CPU
runs ahead of the GPU, which no list of allocations can tell; two policies mark the ends of the range.

Source: recordStream, insert_events and process_events in c10/cuda/CUDACachingAllocator.cpp.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, Literal, get_args

from vramcast.allocator.blocks import Block
from vramcast.errors import InputError

DeferredFree = Literal["immediate", "ahead"]
_EVERYTHING: Final = 1 << 62


class DeferredFrees:
    """Pending frees in the order they were issued, and the point up to which the GPU is known to have worked.

    `immediate`: the GPU is always done when asked. `ahead`: the GPU has done only what the CPU has waited for, and
    finishes work in the order it was issued, whatever the stream: one sequence number per recorded event, waiting for
    one covers all before it.
    """

    __slots__ = ("_completed", "_event_numbers", "_issued", "pending", "uses")

    def __init__(self, policy: DeferredFree) -> None:
        if policy not in get_args(DeferredFree):
            raise InputError("deferred_free", policy, "must be immediate or ahead")
        self.uses: dict[Block, set[int]] = {}
        """Other streams that used a live block."""
        self.pending: deque[tuple[int, Block]] = deque()
        self._issued = 0
        self._completed = _EVERYTHING if policy == "immediate" else 0
        self._event_numbers: dict[int, int] = {}

    def use(self, block: Block, stream: int) -> None:
        """Remember that `stream` uses the block; its own stream needs no care."""
        if stream != block.pool.stream:
            self.uses.setdefault(block, set()).add(stream)

    def defer(self, block: Block) -> None:
        """Queue the free of a block behind the work issued so far."""
        del self.uses[block]
        self._issued += 1
        self.pending.append((self._issued, block))

    def record_event(self, event_id: int) -> None:
        """A CUDA event is recorded behind the work issued so far."""
        self._issued += 1
        self._event_numbers[event_id] = self._issued

    def host_wait_event(self, event_id: int) -> None:
        """The CPU waits for an event; CUDA returns at once from one that was never recorded."""
        self._completed = max(self._completed, self._event_numbers.get(event_id, 0))

    def host_wait_all(self) -> None:
        """The CPU waits for everything issued so far."""
        self._completed = max(self._completed, self._issued)

    def pop_completed(self) -> Iterator[Block]:
        """Blocks whose other streams are done, oldest first."""
        pending = self.pending
        while pending and pending[0][0] <= self._completed:
            yield pending.popleft()[1]
