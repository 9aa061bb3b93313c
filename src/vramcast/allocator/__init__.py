"""PyTorch's CUDA caching allocator, simulated, and the memory snapshots it writes. Needs neither torch nor a GPU."""

from typing import TYPE_CHECKING

from vramcast.allocator.blocks import Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import UNLIMITED, AllocatorConfig
from vramcast.allocator.deferred_frees import DeferredFree
from vramcast.allocator.driver import Observer
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.plain_replay import PlainTimeline, replay_plain
from vramcast.allocator.replay import FailedAllocation, MarkReading, Replayer, ReplayResult, replay
from vramcast.allocator.statistics import AllocatorStatistics, PoolStatistics
from vramcast.late_names import late_names

if TYPE_CHECKING:
    from vramcast.allocator.decode_replay import GenerationReplay, replay_generation
    from vramcast.allocator.snapshot import Snapshot, SnapshotBlock, SnapshotSegment, TraceEntry, allocator_segments
    from vramcast.allocator.snapshot_comparison import SnapshotDifference, compare_with_snapshot, snapshot_config
    from vramcast.allocator.snapshot_reader import read_snapshot
    from vramcast.allocator.snapshot_timeline import snapshot_to_timeline
    from vramcast.allocator.snapshot_writer import write_snapshot

__all__ = [
    "UNLIMITED",
    "AllocatorConfig",
    "AllocatorOutOfMemory",
    "AllocatorStatistics",
    "Block",
    "CachingAllocator",
    "DeferredFree",
    "FailedAllocation",
    "GenerationReplay",
    "MarkReading",
    "Observer",
    "PlainTimeline",
    "PoolStatistics",
    "ReplayResult",
    "Replayer",
    "Snapshot",
    "SnapshotBlock",
    "SnapshotDifference",
    "SnapshotSegment",
    "TraceEntry",
    "allocator_segments",
    "compare_with_snapshot",
    "read_snapshot",
    "replay",
    "replay_generation",
    "replay_plain",
    "snapshot_config",
    "snapshot_to_timeline",
    "write_snapshot",
]

__getattr__ = late_names(
    __name__,
    {
        "decode_replay": ["GenerationReplay", "replay_generation"],
        "snapshot": ["Snapshot", "SnapshotBlock", "SnapshotSegment", "TraceEntry", "allocator_segments"],
        "snapshot_comparison": ["SnapshotDifference", "compare_with_snapshot", "snapshot_config"],
        "snapshot_reader": ["read_snapshot"],
        "snapshot_timeline": ["snapshot_to_timeline"],
        "snapshot_writer": ["write_snapshot"],
    },
)
