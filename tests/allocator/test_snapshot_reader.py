import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_snapshot import LARGE, SIDE, SIDE_STREAM, SMALL, real_snapshot

from vramcast.allocator import TraceEntry, read_snapshot
from vramcast.errors import SnapshotError
from vramcast.units import MIB


def save(path: Path, data: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.pickle"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_pytorch_writes(path: Path, protocol: int) -> None:
    snapshot = read_snapshot(save(path, real_snapshot(), protocol))
    assert [segment.address for segment in snapshot.segments] == [SMALL, LARGE, SIDE]
    assert snapshot.reserved_bytes() == 34 * MIB
    assert snapshot.allocated_bytes() == 2 * MIB + 1024
    assert snapshot.segments[2].stream == SIDE_STREAM
    assert [block.state for block in snapshot.segments[1].blocks] == ["inactive", "active_allocated", "inactive"]
    assert snapshot.traces[0][1] == TraceEntry("alloc", LARGE, 3 * MIB + 5, 0, "forward (/repo/train.py:41)")
    assert snapshot.traces[0][-2][:4] == ("oom", 5 * MIB, 900 * MIB, 0)
    assert snapshot.traces[1] == ()


def test_both_names_of_a_pending_free_are_known(path: Path) -> None:
    data = real_snapshot()
    data["segments"][2]["blocks"][0]["state"] = "active_awaiting_free"
    assert read_snapshot(save(path, data)).segments[2].blocks[0].state == "active_pending_free"


class _RunsACommand:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize(
    "wrap", [lambda bad: bad, lambda bad: {**real_snapshot(), "extra": bad}], ids=["alone", "inside"]
)
def test_a_command_in_the_file_is_never_run(path: Path, tmp_path: Path, wrap: Callable[[object], object]) -> None:
    marker = tmp_path / "ran"
    save(path, wrap(_RunsACommand(marker)))
    with pytest.raises(SnapshotError, match=r"posix\.system"):
        read_snapshot(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file was harmless, so the test above proved nothing"


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, 1j, bytearray(b"x")], ids=["path", "set", "complex", "bytearray"])
def test_any_class_is_foreign(path: Path, value: object) -> None:
    with pytest.raises(SnapshotError, match="plain data only"):
        read_snapshot(save(path, {**real_snapshot(), "extra": value}))


def test_persistent_references_are_refused(path: Path) -> None:
    path.write_bytes(b"\x80\x04Pname\n.")
    with pytest.raises(SnapshotError, match="not a readable pickle"):
        read_snapshot(path)


def test_every_truncation_is_refused(path: Path) -> None:
    whole = pickle.dumps(real_snapshot(), protocol=4)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotError):
            read_snapshot(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04", b"\x80\x04\x95", b"\x80\x63", b"\x80\x04K\x01b.", b"."]
)
def test_what_is_no_pickle_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match="snapshot="):
        read_snapshot(path)


def test_no_such_file(path: Path) -> None:
    with pytest.raises(SnapshotError, match="cannot be opened"):
        read_snapshot(path)


def test_deep_nesting_is_refused(path: Path) -> None:
    depth = 200_000
    nested = b"]" * depth + b"a" * (depth - 1)
    path.write_bytes(b"\x80\x04" + nested + b".")
    with pytest.raises(SnapshotError, match="snapshot must be a dict, not list"):
        read_snapshot(path)
    path.write_bytes(b"\x80\x04}(X\x08\x00\x00\x00segments" + nested + b"X\x0d\x00\x00\x00device_traces]u.")
    with pytest.raises(SnapshotError, match=r"segments\[0\] must be a dict"):
        read_snapshot(path)


def _without(*keys: Any) -> dict[str, Any]:
    data = real_snapshot()
    inner: Any = data
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return data


def _with(value: object, *keys: Any) -> dict[str, Any]:
    data = real_snapshot()
    inner: Any = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return data


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        (("segments",), "snapshot has no key 'segments'"),
        (("device_traces",), "snapshot has no key 'device_traces'"),
        (("segments", 1, "blocks"), "segments[1] has no key 'blocks'"),
        (("segments", 1, "total_size"), "segments[1] has no key 'total_size'"),
        (("segments", 0, "device"), "segments[0] has no key 'device'"),
        (("segments", 1, "blocks", 2, "size"), "segments[1]['blocks'][2] has no key 'size'"),
        (("segments", 1, "blocks", 1, "requested_size"), "segments[1]['blocks'][1] has no key 'requested_size'"),
        (("device_traces", 0, 3, "action"), "device_traces[0][3] has no key 'action'"),
        (("device_traces", 0, 3, "addr"), "device_traces[0][3] has no key 'addr'"),
        (("device_traces", 0, 15, "device_free"), "device_traces[0][15] has no key 'device_free'"),
    ],
)
def test_a_missing_key_is_named(path: Path, keys: tuple[Any, ...], where: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        read_snapshot(save(path, _without(*keys)))
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("value", "keys", "problem"),
    [
        ("x", ("segments", 0, "total_size"), "segments[0]['total_size'] must be a whole number"),
        (-1, ("device_traces", 0, 1, "size"), "device_traces[0][1]['size'] must be a whole number of at least 0"),
        (True, ("device_traces", 0, 1, "addr"), "device_traces[0][1]['addr'] must be a whole number"),
        (1.5, ("segments", 0, "blocks", 0, "size"), "must be a whole number"),
        ("lost", ("segments", 0, "blocks", 0, "state"), "must be one of active_allocated"),
        ("realloc", ("device_traces", 0, 1, "action"), "must be one of alloc"),
        ("huge", ("segments", 0, "segment_type"), "must be one of small, large"),
        (21 * MIB, ("segments", 1, "total_size"), "its blocks add up to 20971520 bytes, its total_size is 22020096"),
        ((0, 4), ("segments", 1, "segment_pool_id"), "private pool"),
        ((1, 0), ("device_traces", 0, 1, "pool_id"), "private pool"),
        ({}, ("device_traces",), "device_traces must be a list, not dict"),
        (7, ("device_traces", 0), "device_traces[0] must be a list, not int"),
        (7, ("segments", 0), "segments[0] must be a dict, not int"),
        ([], ("allocator_settings",), "allocator_settings must be a dict, not list"),
    ],
)
def test_a_wrong_value_is_named(path: Path, value: object, keys: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        read_snapshot(save(path, _with(value, *keys)))
    assert problem in str(caught.value)
