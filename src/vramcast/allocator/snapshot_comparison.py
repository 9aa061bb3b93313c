"""Replay a snapshot's history and compare what the simulated allocator holds with what the GPU really held."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from vramcast.allocator.caching_allocator import CachingAllocator
from vramcast.allocator.config import UNLIMITED, AllocatorConfig
from vramcast.allocator.environment import parse_settings
from vramcast.allocator.replay import Replayer
from vramcast.allocator.snapshot import Snapshot, SnapshotSegment, allocator_segments
from vramcast.allocator.snapshot_timeline import translate_history

_ALREADY_IN_HISTORY = ("per_process_memory_fraction", "garbage_collection_threshold", "throw_on_cudamalloc_oom")


@dataclass(frozen=True, slots=True)
class SnapshotDifference:
    """A segment that one side has and the other has not, or a block that lies elsewhere."""

    description: str
    in_snapshot: SnapshotSegment | None = None
    in_replay: SnapshotSegment | None = None


def compare_with_snapshot(
    snapshot: Snapshot, device: int = 0, config: AllocatorConfig | None = None
) -> tuple[SnapshotDifference, ...]:
    """Differences between the replayed history and the snapshot's own segments; empty where they agree byte for byte.

    Addresses need not be equal, only matched: each live allocation must have the same place in its segment, two
    allocations share a segment in the replay exactly where they do in the snapshot, and matched segments consist of
    the same blocks.

    Args:
        snapshot: what `read_snapshot` returned.
        device: index of the GPU.
        config: settings of the allocator; None = those in the snapshot.

    Raises:
        SnapshotError: as `snapshot_to_timeline`.
    """
    history = translate_history(snapshot, device)
    allocator = CachingAllocator(snapshot_config(snapshot) if config is None else config, deferred_free="ahead")
    replayer = Replayer(history.timeline.allocations, allocator=allocator, track_live=False)
    replayer.feed(history.timeline.events)
    # A free_completed in the history has happened; the simulated allocator would book it only at its next malloc.
    allocator.process_events()
    theirs = [segment for segment in snapshot.segments if segment.device == device]
    ours = allocator_segments(allocator)
    addresses = {}
    for address, index in history.live.items():
        block = replayer.blocks[index]
        if block is not None:
            addresses[block.address] = address
    return _match(ours, theirs, addresses)


def _match(
    ours: list[SnapshotSegment], theirs: list[SnapshotSegment], addresses: dict[int, int]
) -> tuple[SnapshotDifference, ...]:
    """Pair segments by a live block they share, the rest by their blocks alone."""
    owner = {block.address: segment for segment in theirs for block in segment.blocks}
    differences: list[SnapshotDifference] = []
    loose: list[SnapshotSegment] = []
    taken: set[int] = set()
    for segment in ours:
        shared = [addresses[block.address] for block in segment.blocks if block.address in addresses]
        partner = owner.get(shared[0]) if shared else None
        if partner is None or partner.address in taken:
            loose.append(segment)
            continue
        taken.add(partner.address)
        shift = partner.address - segment.address
        displaced = [
            a for b in segment.blocks if (a := addresses.get(b.address)) is not None and a - b.address != shift
        ]
        if displaced or _layout(segment) != _layout(partner):
            differences.append(SnapshotDifference(_describe(segment, partner, displaced), partner, segment))
    unpaired = [segment for segment in theirs if segment.address not in taken]
    return (*differences, *_unmatched(loose, unpaired))


def _unmatched(ours: list[SnapshotSegment], theirs: list[SnapshotSegment]) -> list[SnapshotDifference]:
    surplus = Counter(map(_layout, ours))
    surplus.subtract(map(_layout, theirs))
    differences = []
    for segment in theirs:
        if surplus[_layout(segment)] < 0:
            surplus[_layout(segment)] += 1
            differences.append(SnapshotDifference(f"only in the snapshot: {_name(segment)}", in_snapshot=segment))
    for segment in ours:
        if surplus[_layout(segment)] > 0:
            surplus[_layout(segment)] -= 1
            differences.append(SnapshotDifference(f"only in the replay: {_name(segment)}", in_replay=segment))
    return differences


def _layout(segment: SnapshotSegment) -> tuple[Any, ...]:
    blocks = tuple(block[1:] for block in segment.blocks)
    return segment.stream, segment.is_small, segment.is_expandable, blocks


def _describe(segment: SnapshotSegment, partner: SnapshotSegment, displaced: list[int]) -> str:
    if displaced:
        return f"{_name(partner)} holds block {displaced[0]:#x} elsewhere in the replay"
    pairs = zip(partner.blocks, segment.blocks, strict=False)
    for position, (real, simulated) in enumerate(pairs):
        if real[1:] != simulated[1:]:
            return f"{_name(partner)}, block {position}: {real[1:]} in the snapshot, {simulated[1:]} in the replay"
    return f"{_name(partner)} has {len(partner.blocks)} blocks, {len(segment.blocks)} in the replay of {_name(segment)}"


def _name(segment: SnapshotSegment) -> str:
    pool = "small" if segment.is_small else "large"
    return f"{pool} segment {segment.address:#x} of {segment.total_size} bytes on stream {segment.stream}"


def snapshot_config(snapshot: Snapshot) -> AllocatorConfig:
    """The settings under which a snapshot was taken, as far as it tells.

    Memory fraction and garbage collection are left out: what they gave back is in the history.
    """
    text = snapshot.settings.get("PYTORCH_CUDA_ALLOC_CONF")
    if isinstance(text, str) and text:
        settings = parse_settings(text)
        return AllocatorConfig(**{key: value for key, value in settings.items() if key not in _ALREADY_IN_HISTORY})
    expandable = any(segment.is_expandable for segment in snapshot.segments)
    max_split_size = snapshot.settings.get("max_split_size", -1)
    return AllocatorConfig(
        expandable_segments=bool(snapshot.settings.get("expandable_segments", expandable)),
        max_split_size=max_split_size if isinstance(max_split_size, int) and max_split_size >= 0 else UNLIMITED,
    )
