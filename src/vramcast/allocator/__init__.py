"""PyTorch's CUDA caching allocator, simulated, and the memory snapshots it writes. Needs neither torch nor a GPU."""

from vramcast.allocator.blocks import Block
from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import UNLIMITED, AllocatorConfig
from vramcast.allocator.decode_replay import GenerationReplay, replay_generation
from vramcast.allocator.deferred_frees import DeferredFree
from vramcast.allocator.driver import Observer
from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.allocator.replay import FailedAllocation, MarkReading, Replayer, ReplayResult, replay
from vramcast.allocator.snapshot import Snapshot, SnapshotBlock, SnapshotSegment, TraceEntry, allocator_segments
from vramcast.allocator.snapshot_comparison import SnapshotDifference, compare_with_snapshot, snapshot_config
from vramcast.allocator.snapshot_reader import read_snapshot
from vramcast.allocator.snapshot_timeline import snapshot_to_timeline
from vramcast.allocator.snapshot_writer import write_snapshot
from vramcast.allocator.statistics import AllocatorStatistics, PoolStatistics

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
    "snapshot_config",
    "snapshot_to_timeline",
    "write_snapshot",
]
