import pickle
from pathlib import Path
from typing import Any

import pytest
from real_snapshot import LARGE, SMALL, real_snapshot

from vramcast.allocator import (
    AllocatorConfig,
    Snapshot,
    compare_with_snapshot,
    read_snapshot,
    replay,
    snapshot_config,
    snapshot_to_timeline,
)
from vramcast.errors import InputError, SnapshotError
from vramcast.timeline import EventKind
from vramcast.units import MIB


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def save_and_read(data: dict[str, Any]) -> Snapshot:
        path = tmp_path / "snapshot.pickle"
        path.write_bytes(pickle.dumps(data))
        return read_snapshot(path)

    return save_and_read


def test_history_becomes_a_timeline(read: Any) -> None:
    timeline = snapshot_to_timeline(read(real_snapshot()))
    assert [allocation.nbytes for allocation in timeline.allocations] == [
        3 * MIB + 5,
        2 * MIB,
        1000,
        12 * MIB,
        30 * MIB,
    ]
    assert [event.kind for event in timeline.events].count(EventKind.EMPTY_CACHE) == 1
    result = replay(timeline, deferred_free="ahead")
    # 64 MiB = 20 + 2 + 12 + 30; live at most: 2 MiB, 1024 B, 12 MiB and 30 MiB, the 3 MiB being gone before.
    assert (result.peak_reserved_bytes, result.reserved_bytes) == (64 * MIB, 34 * MIB)
    assert result.peak_allocated_bytes == 44 * MIB + 1024
    assert result.allocated_bytes == 2 * MIB + 1024


def test_a_faithful_snapshot_has_no_differences(read: Any) -> None:
    assert compare_with_snapshot(read(real_snapshot())) == ()


def test_a_device_without_history_or_memory_is_empty(read: Any) -> None:
    snapshot = read(real_snapshot())
    assert snapshot_to_timeline(snapshot, 1).events == []
    assert compare_with_snapshot(snapshot, 1) == ()
    with pytest.raises(InputError, match="device=2"):
        snapshot_to_timeline(snapshot, 2)


def test_a_snapshot_without_history_is_refused(read: Any) -> None:
    data = real_snapshot()
    data["device_traces"] = [[]]
    with pytest.raises(SnapshotError, match="_record_memory_history"):
        snapshot_to_timeline(read(data))


def test_another_tiling_is_a_difference(read: Any) -> None:
    data = real_snapshot()
    blocks = data["segments"][1]["blocks"]
    blocks[1]["size"] += 512
    blocks[2]["size"] -= 512
    (difference,) = compare_with_snapshot(read(data))
    assert difference.in_snapshot is not None and difference.in_snapshot.address == LARGE
    assert difference.in_replay is not None and difference.in_replay.total_size == 20 * MIB
    assert "block 1: (2097664, 2097152, 'active_allocated') in the snapshot" in difference.description


def test_a_missing_segment_is_a_difference(read: Any) -> None:
    data = real_snapshot()
    del data["segments"][2]
    (difference,) = compare_with_snapshot(read(data))
    assert difference.in_snapshot is None and "only in the replay" in difference.description


def test_a_segment_too_many_is_a_difference(read: Any) -> None:
    data = real_snapshot()
    unused = {**data["segments"][2], "address": LARGE + 512 * MIB, "stream": 0}
    unused["blocks"] = [{**unused["blocks"][0], "state": "inactive"}]
    data["segments"].append(unused)
    (difference,) = compare_with_snapshot(read(data))
    assert difference.in_replay is None and "only in the snapshot" in difference.description


def test_a_block_in_another_place_is_a_difference(read: Any) -> None:
    # The same blocks of the same sizes, but the history says that the live one is the first half.
    data = real_snapshot()
    small = data["segments"][0]
    half = {**small["blocks"][0], "size": 1024, "requested_size": 1000}
    small["blocks"] = [
        {**half, "state": "inactive"},
        {**half, "address": SMALL + 1024},
        {**small["blocks"][1], "address": SMALL + 2048, "size": 2 * MIB - 2048},
    ]
    data["device_traces"][0][4]["addr"] = SMALL + 1024
    (difference,) = compare_with_snapshot(read(data))
    assert "elsewhere in the replay" in difference.description


def test_blocks_older_than_the_history_come_first(read: Any) -> None:
    data = real_snapshot()
    data["device_traces"][0] = data["device_traces"][0][3:]
    timeline = snapshot_to_timeline(read(data))
    assert [(a.nbytes, a.phase) for a in timeline.allocations[:2]] == [
        (3 * MIB + 5, "before_recording"),
        (2 * MIB, "before_recording"),
    ]
    assert compare_with_snapshot(read(data)) == ()


def test_contradictory_history_is_refused(read: Any) -> None:
    data = real_snapshot()
    trace = data["device_traces"][0]
    trace.insert(2, trace[1])
    with pytest.raises(SnapshotError, match="trace entry 2 allocates 0x7f2a40000000"):
        snapshot_to_timeline(read(data))


def test_config_of_a_snapshot(read: Any) -> None:
    data = real_snapshot()
    data["allocator_settings"] = {"expandable_segments": True, "max_split_size": 30 * MIB}
    assert snapshot_config(read(data)) == AllocatorConfig(expandable_segments=True, max_split_size=30 * MIB)
    text = "roundup_power2_divisions:4,per_process_memory_fraction:0.5,garbage_collection_threshold:0.8"
    data["allocator_settings"] = {"PYTORCH_CUDA_ALLOC_CONF": text, "expandable_segments": True}
    assert snapshot_config(read(data)) == AllocatorConfig(roundup_power2_divisions=(4,) * 16)
    del data["allocator_settings"]
    assert snapshot_config(read(data)) == AllocatorConfig()
    data["segments"][0]["is_expandable"] = True
    assert snapshot_config(read(data)) == AllocatorConfig(expandable_segments=True)
