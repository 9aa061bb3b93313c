import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest
from allocator_programs import PROGRAM, Operation
from hypothesis import given
from hypothesis import strategies as st
from real_snapshot import real_snapshot

from vramcast.allocator import (
    AllocatorConfig,
    compare_with_snapshot,
    read_snapshot,
    replay,
    snapshot_to_timeline,
    write_snapshot,
)
from vramcast.errors import InputError
from vramcast.timeline import Allocation, Event, EventKind, Timeline
from vramcast.units import MIB


def training_step() -> Timeline:
    timeline = Timeline()
    weight = timeline.alloc(Allocation(40 * MIB, category="parameters", phase="load", module="lm_head", op="empty"))
    hidden = timeline.alloc(Allocation(5 * MIB + 1, category="activations", phase="forward", module="h.0", op="addmm"))
    scratch = timeline.alloc(Allocation(700, phase="forward", module="h.0.attn", op="native_dropout"))
    timeline.free(scratch)
    side = timeline.alloc(Allocation(3 * MIB, stream=4))
    timeline.events.append(Event(EventKind.USE_STREAM, side, 0))
    timeline.free(side)
    nothing = timeline.alloc(Allocation(0))
    timeline.free(nothing)
    timeline.mark("after_forward")
    timeline.events.append(Event(EventKind.EMPTY_CACHE))
    timeline.free(hidden)
    timeline.alloc(Allocation(60 * MIB, category="gradients", phase="backward"))
    assert weight == 0
    return timeline


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = pickle.loads(path.read_bytes())
    return data


def test_history_in_pytorch_order(tmp_path: Path) -> None:
    path = tmp_path / "step.pickle"
    write_snapshot(training_step(), path, deferred_free="ahead")
    (trace,) = load(path)["device_traces"]
    assert [(entry["action"], entry["size"], entry["stream"]) for entry in trace] == [
        ("segment_alloc", 40 * MIB, 0),
        ("alloc", 40 * MIB, 0),
        ("segment_alloc", 20 * MIB, 0),
        ("alloc", 5 * MIB + 1, 0),
        ("segment_alloc", 2 * MIB, 0),
        ("alloc", 700, 0),
        ("free_requested", 700, 0),
        ("free_completed", 700, 0),
        ("segment_alloc", 20 * MIB, 4),
        ("alloc", 3 * MIB, 4),
        ("free_requested", 3 * MIB, 4),
        ("free_completed", 3 * MIB, 4),
        ("segment_free", 20 * MIB, 4),
        ("segment_free", 2 * MIB, 0),
        ("free_requested", 5 * MIB + 1, 0),
        ("free_completed", 5 * MIB + 1, 0),
        ("segment_alloc", 60 * MIB, 0),
        ("alloc", 60 * MIB, 0),
    ]
    assert [entry["time_us"] for entry in trace] == sorted(entry["time_us"] for entry in trace)


def test_frames_tell_what_an_allocation_is_for(tmp_path: Path) -> None:
    path = tmp_path / "step.pickle"
    write_snapshot(training_step(), path)
    data = load(path)
    frames = data["device_traces"][0][3]["frames"]
    assert frames == [
        {"name": "addmm", "filename": "h.0", "line": 0},
        {"name": "activations", "filename": "<phase forward>", "line": 0},
    ]
    states = {block["state"]: block["frames"] for segment in data["segments"] for block in segment["blocks"]}
    assert states["inactive"] == [] and states["active_allocated"][1]["filename"] == "<phase backward>"


def test_the_line_that_asked_stands_between_operator_and_phase(tmp_path: Path) -> None:
    timeline, path = training_step(), tmp_path / "step.pickle"
    lines = [("train.py", number, "step") for number in range(1, 1 + len(timeline.allocations))]
    write_snapshot(timeline, path, code_lines=lines)
    frames = load(path)["device_traces"][0][3]["frames"]
    assert [frame["name"] for frame in frames] == ["addmm", "step", "activations"]
    assert frames[1] == {"name": "step", "filename": "train.py", "line": 2}


def test_segments_have_the_keys_of_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "step.pickle"
    write_snapshot(training_step(), path)
    ours, theirs = load(path), real_snapshot()
    assert ours.keys() == theirs.keys()
    assert ours["segments"][0].keys() == theirs["segments"][0].keys()
    assert ours["segments"][0]["blocks"][0].keys() == theirs["segments"][0]["blocks"][0].keys()
    assert ours["allocator_settings"].keys() >= theirs["allocator_settings"].keys()


def test_only_what_the_viewer_can_unpickle(tmp_path: Path) -> None:
    path = tmp_path / "step.pickle"
    write_snapshot(training_step(), path)
    names = {opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes())}
    # The opcodes that MemoryViz.js reads.
    assert names <= {
        *("PROTO", "FRAME", "MARK", "STOP", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "MEMOIZE", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE"),
    }
    addresses = [entry["addr"] for entry in load(path)["device_traces"][0]]
    assert max(addresses) < 2**53


def test_pytorch_reads_it(tmp_path: Path) -> None:
    memory_viz = pytest.importorskip("torch.cuda._memory_viz")
    for config in (AllocatorConfig(), AllocatorConfig(expandable_segments=True)):
        path = tmp_path / "step.pickle"
        result = write_snapshot(training_step(), path, config=config, capacity_bytes=200 * MIB)
        data = load(path)
        assert f"total_reserved: {result.reserved_bytes / MIB:.1f}MiB" in memory_viz.segsum(data)
        assert "del " in memory_viz.trace(data)
        assert "activations" not in memory_viz.memory(data, format_flamegraph=str)
        assert "gradients" in memory_viz.memory(data, format_flamegraph=str)
        assert "snapshot.pickle" in memory_viz.trace_plot(data)
        assert "snapshot.pickle" in memory_viz.segment_plot(data)


def test_out_of_memory_is_the_end_of_the_history(tmp_path: Path) -> None:
    path = tmp_path / "oom.pickle"
    result = write_snapshot(training_step(), path, capacity_bytes=90 * MIB)
    last = load(path)["device_traces"][0][-1]
    assert (last["action"], last["size"], last["device_free"]) == ("oom", 60 * MIB, 50 * MIB)
    assert "addr" not in last and len(result.out_of_memory) == 1
    assert compare_with_snapshot(read_snapshot(path)) == ()
    memory_viz = pytest.importorskip("torch.cuda._memory_viz")
    assert "raise OutOfMemoryError" in memory_viz.trace(load(path))


def test_max_entries_keeps_the_end(tmp_path: Path) -> None:
    path = tmp_path / "ring.pickle"
    write_snapshot(training_step(), path, max_entries=2)
    assert [entry["action"] for entry in load(path)["device_traces"][0]] == ["segment_alloc", "alloc"]
    with pytest.raises(InputError, match="max_entries=0"):
        write_snapshot(training_step(), path, max_entries=0)


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step.pickle"
    path.write_text("older")

    def fail(*_args: object, **_keywords: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pickle, "dump", fail)
    with pytest.raises(OSError, match="disk full"):
        write_snapshot(training_step(), path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("step.pickle", "older")]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder does not exist"):
        write_snapshot(training_step(), tmp_path / "missing" / "step.pickle")


def timeline_of(program: list[Operation]) -> Timeline:
    timeline, live = Timeline(), []
    kinds = {"record_event": EventKind.RECORD_EVENT, "host_wait_event": EventKind.HOST_WAIT_EVENT}
    kinds |= {"synchronize": EventKind.HOST_WAIT_DEVICE, "empty_cache": EventKind.EMPTY_CACHE}
    for operation in program:
        if operation.name == "malloc":
            live.append(timeline.alloc(Allocation(operation.number, operation.stream)))
        elif operation.name == "free" and live:
            timeline.free(live.pop(operation.number % len(live)))
        elif operation.name == "record_stream" and live:
            index = live[operation.number % len(live)]
            timeline.events.append(Event(EventKind.USE_STREAM, index, operation.stream))
        elif operation.name in kinds:
            timeline.events.append(Event(kinds[operation.name], operation.number))
    return timeline


@given(PROGRAM, st.booleans(), st.booleans(), st.none() | st.integers(30, 200))
def test_written_read_and_replayed_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    program: list[Operation],
    expandable: bool,
    ahead: bool,
    capacity_mib: int | None,
) -> None:
    timeline = timeline_of(program)
    path = tmp_path_factory.getbasetemp() / "program.pickle"
    config = AllocatorConfig(expandable_segments=expandable)
    # A flush that completes a pending free is not searched again by PyTorch; a history cannot tell that apart.
    capacity = None if capacity_mib is None or ahead else capacity_mib * MIB
    written = write_snapshot(
        timeline, path, config=config, capacity_bytes=capacity, deferred_free="ahead" if ahead else "immediate"
    )
    snapshot = read_snapshot(path)
    assert compare_with_snapshot(snapshot) == ()
    assert snapshot.reserved_bytes() == written.reserved_bytes
    assert snapshot.allocated_bytes() == written.allocated_bytes
    replayed = replay(snapshot_to_timeline(snapshot), config, deferred_free="ahead")
    assert replayed.peak_allocated_bytes == written.peak_allocated_bytes
    assert replayed.peak_active_bytes == written.peak_active_bytes
    assert replayed.peak_reserved_bytes == written.peak_reserved_bytes
