"""A PyTorch memory snapshot: the segments and blocks at one moment, and the trace of events that led there.

The same types describe the state of the simulated allocator, so that the two can be compared block by block.

Source: torch.cuda.memory._snapshot and torch/csrc/cuda/memory_snapshot.cpp.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from vramcast.allocator.blocks import LIVE, PENDING_FREE, UNMAPPED, Block
from vramcast.allocator.caching_allocator import CachingAllocator

BlockState = Literal["active_allocated", "active_pending_free", "inactive"]
BLOCK_STATES: tuple[BlockState, ...] = get_args(BlockState)

ACTIONS = (
    "alloc",
    "free_requested",
    "free_completed",
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
    "snapshot",
    "oom",
)


class SnapshotBlock(NamedTuple):
    """One block of a segment; `requested_size` is what the caller asked for, and means nothing where the block is
    inactive."""

    address: int
    size: int
    requested_size: int
    state: BlockState


@dataclass(frozen=True, slots=True)
class SnapshotSegment:
    """One `cudaMalloc`, or one contiguous mapped range of an expandable segment; its blocks tile it."""

    address: int
    total_size: int
    stream: int
    is_small: bool
    is_expandable: bool
    blocks: tuple[SnapshotBlock, ...]
    device: int = 0

    @property
    def allocated_size(self) -> int:
        """Bytes of the blocks that are allocated."""
        return sum(block.size for block in self.blocks if block.state == "active_allocated")


class TraceEntry(NamedTuple):
    """One event of the history. `size` is what was asked for (alloc, free_*), or what was taken from the driver
    (segment_*)."""

    action: str
    address: int
    size: int
    stream: int
    frame: str = ""
    """Innermost frame of the call stack, as `name (filename:line)`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Segments of all devices, in the order of their addresses, and one trace per device, oldest entry first."""

    segments: tuple[SnapshotSegment, ...]
    traces: tuple[tuple[TraceEntry, ...], ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """`allocator_settings` as PyTorch wrote them."""

    def reserved_bytes(self, device: int = 0) -> int:
        """Bytes of all segments of a device."""
        return sum(segment.total_size for segment in self.segments if segment.device == device)

    def allocated_bytes(self, device: int = 0) -> int:
        """Bytes of all allocated blocks of a device."""
        return sum(segment.allocated_size for segment in self.segments if segment.device == device)


def allocator_segments(allocator: CachingAllocator) -> list[SnapshotSegment]:
    """The segments of a simulated allocator as a snapshot would list them: one per contiguous mapped range, by
    address."""
    segments = []
    for _, head in sorted(allocator.driver.heads.items()):
        run: list[Block] = []
        block: Block | None = head
        while block is not None:
            if block.state != UNMAPPED:
                run.append(block)
            if run and (block.next is None or block.next.state == UNMAPPED):
                segments.append(_segment(run, allocator.config.expandable_segments))
                run = []
            block = block.next
    return segments


def _segment(run: list[Block], is_expandable: bool) -> SnapshotSegment:
    states: dict[int, BlockState] = {LIVE: "active_allocated", PENDING_FREE: "active_pending_free"}
    blocks = tuple(
        SnapshotBlock(
            block.address,
            block.size,
            block.requested if block.state in states else 0,
            states.get(block.state, "inactive"),
        )
        for block in run
    )
    return SnapshotSegment(
        address=run[0].address,
        total_size=sum(block.size for block in run),
        stream=run[0].pool.stream,
        is_small=run[0].pool.is_small,
        is_expandable=is_expandable,
        blocks=blocks,
    )
