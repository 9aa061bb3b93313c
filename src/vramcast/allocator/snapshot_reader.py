"""Read a PyTorch memory snapshot without ever running what is inside the file.

A pickle can call any function while it is loaded. A snapshot needs none, so every reference to a class or a function
is refused.
"""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from vramcast.allocator.snapshot import ACTIONS, BLOCK_STATES, Snapshot, SnapshotBlock, SnapshotSegment, TraceEntry
from vramcast.errors import SnapshotError

_HOW = "write one with torch.cuda.memory._dump_snapshot(path)"
_EMPTY_POOL = (0, 0)


class _PlainUnpickler(pickle.Unpickler):
    """Loads dict, list, tuple, str, numbers, bool and None; nothing else exists for it."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise _ForeignClass(f"{module_name}.{global_name}")


class _ForeignClass(Exception):
    pass


def read_snapshot(path: str | Path) -> Snapshot:
    """The snapshot in a file written by `torch.cuda.memory._dump_snapshot` or by `write_snapshot`.

    Raises:
        SnapshotError: no such file, not a pickle, cut off, holding more than plain data, or lacking a key; the
            message names it.
    """
    path = Path(path)
    data = _load(path)
    reader = _Reader(path)
    mapping = reader.mapping(data, "snapshot")
    segments = reader.sequence(reader.get(mapping, "segments", "snapshot"), "segments")
    traces = reader.sequence(reader.get(mapping, "device_traces", "snapshot"), "device_traces")
    settings = reader.mapping(mapping.get("allocator_settings", {}), "allocator_settings")
    return Snapshot(
        segments=tuple(reader.segment(item, f"segments[{i}]") for i, item in enumerate(segments)),
        traces=tuple(reader.trace(trace, f"device_traces[{device}]") for device, trace in enumerate(traces)),
        settings=settings,
    )


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except OSError as error:
        raise SnapshotError("snapshot", str(path), f"cannot be opened ({error.strerror}); {_HOW}") from None
    except _ForeignClass as error:
        fix = f"refers to {error}; a snapshot holds plain data only, so this file is not loaded"
        raise SnapshotError("snapshot", str(path), fix) from None
    except (EOFError, RecursionError, MemoryError) as error:
        raise SnapshotError("snapshot", str(path), f"is cut off or damaged ({type(error).__name__}); {_HOW}") from None
    # A damaged pickle can raise almost anything: the unpickler applies opcodes to whatever the stack happens to hold.
    except Exception as error:
        fix = f"is not a readable pickle ({type(error).__name__}: {error}); {_HOW}"
        raise SnapshotError("snapshot", str(path), fix) from None


class _Reader:
    """Checks plain data against the format; every message says where in the snapshot it is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, problem: str) -> NoReturn:
        raise SnapshotError("snapshot", str(self._path), f"{problem}; {_HOW}")

    def mapping(self, value: Any, where: str) -> dict[Any, Any]:
        if not isinstance(value, dict):
            self.fail(f"{where} must be a dict, not {type(value).__name__}")
        return value

    def sequence(self, value: Any, where: str) -> Iterable[Any]:
        if not isinstance(value, list | tuple):
            self.fail(f"{where} must be a list, not {type(value).__name__}")
        return value

    def get(self, mapping: dict[Any, Any], key: str, where: str) -> Any:
        if key not in mapping:
            self.fail(f"{where} has no key {key!r}")
        return mapping[key]

    def integer(self, mapping: dict[Any, Any], key: str, where: str) -> int:
        value = self.get(mapping, key, where)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fail(f"{where}[{key!r}] must be a whole number of at least 0, not a {type(value).__name__}")
        return value

    def text(self, mapping: dict[Any, Any], key: str, where: str, allowed: tuple[str, ...]) -> str:
        value = self.get(mapping, key, where)
        if not isinstance(value, str) or value not in allowed:
            self.fail(f"{where}[{key!r}] must be one of {', '.join(allowed)}")
        return value

    def default_pool(self, mapping: dict[Any, Any], key: str, where: str) -> None:
        pool = mapping.get(key, _EMPTY_POOL)
        if not isinstance(pool, list | tuple) or tuple(pool) != _EMPTY_POOL:
            self.fail(f"{where} belongs to a private pool (CUDA graph or torch.cuda.MemPool), which is not simulated")

    def segment(self, item: Any, where: str) -> SnapshotSegment:
        segment = self.mapping(item, where)
        self.default_pool(segment, "segment_pool_id", where)
        address = self.integer(segment, "address", where)
        blocks = []
        end = address
        for i, block in enumerate(self.sequence(self.get(segment, "blocks", where), f"{where}['blocks']")):
            blocks.append(self.block(block, end, f"{where}['blocks'][{i}]"))
            end += blocks[-1].size
        total_size = self.integer(segment, "total_size", where)
        if end - address != total_size:
            self.fail(f"{where}: its blocks add up to {end - address} bytes, its total_size is {total_size}")
        return SnapshotSegment(
            address=address,
            total_size=total_size,
            stream=self.integer(segment, "stream", where),
            is_small=self.text(segment, "segment_type", where, ("small", "large")) == "small",
            is_expandable=bool(segment.get("is_expandable", False)),
            blocks=tuple(blocks),
            device=self.integer(segment, "device", where),
        )

    def block(self, item: Any, address: int, where: str) -> SnapshotBlock:
        block = self.mapping(item, where)
        state = self.text(block, "state", where, (*BLOCK_STATES, "active_awaiting_free"))
        # The documentation of PyTorch says active_awaiting_free, its code writes active_pending_free.
        known = next((name for name in BLOCK_STATES if name == state), BLOCK_STATES[1])
        size = self.integer(block, "size", where)
        requested = self.integer(block, "requested_size", where) if known != "inactive" else 0
        return SnapshotBlock(address, size, requested, known)

    def trace(self, items: Any, where: str) -> tuple[TraceEntry, ...]:
        return tuple(self.entry(item, f"{where}[{i}]") for i, item in enumerate(self.sequence(items, where)))

    def entry(self, item: Any, where: str) -> TraceEntry:
        entry = self.mapping(item, where)
        action = self.text(entry, "action", where, ACTIONS)
        if action == "snapshot":
            return TraceEntry(action, 0, 0, 0)
        self.default_pool(entry, "pool_id", where)
        address = self.integer(entry, "device_free" if action == "oom" else "addr", where)
        size, stream = self.integer(entry, "size", where), self.integer(entry, "stream", where)
        return TraceEntry(action, address, size, stream, _innermost_frame(entry.get("frames")))


def _innermost_frame(frames: Any) -> str:
    if not isinstance(frames, list | tuple) or not frames or not isinstance(frames[0], dict):
        return ""
    frame = frames[0]
    return f"{frame.get('name', '')} ({frame.get('filename', '')}:{frame.get('line', 0)})"
