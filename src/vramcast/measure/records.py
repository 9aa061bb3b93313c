"""Records of measurements: one JSON object a line. A file is replaced as a whole, so a half-written line never stays."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vramcast.errors import InputError
from vramcast.whole_file import replacing

SCHEMA_VERSION = 1

Status = Literal["ok", "oom", "failed", "timeout"]
STATUSES: tuple[Status, ...] = ("ok", "oom", "failed", "timeout")


@dataclass(frozen=True, slots=True)
class Record:
    """What one job left; every size is an int of bytes."""

    id: str
    kind: str
    job: dict[str, Any]
    readings: dict[str, Any]
    versions: dict[str, str]
    gpu: dict[str, Any]
    status: Status
    message: str = ""
    seconds: float = 0.0
    date: str = ""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes a second measurement pointless: the same job, libraries and GPU."""
        return record_key(self.id, self.versions, self.gpu)


def record_key(job_id: str, versions: dict[str, str], gpu: dict[str, Any]) -> tuple[str, ...]:
    """Identity of a measurement."""
    return (job_id, versions.get("torch", ""), versions.get("transformers", ""), str(gpu.get("name", "")))


def check_appendable(path: Path) -> None:
    """Say before anything is measured whether a record could be kept there.

    Raises:
        InputError: it cannot.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise InputError("record", str(path), "is a folder; name a file such as measured.jsonl")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("record", str(path), f"{folder} cannot be written; name another file")


def append_record(path: Path, record: Record) -> None:
    """Add a line: the old lines and the new one are written to another file, which then takes the place of the first.

    What another program cut off in the middle of its last line is dropped. Writers of one folder wait for each other.

    Raises:
        OSError: the disk is full or the folder cannot be written; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(record), sort_keys=True).encode() + b"\n"
    with _alone_in(path.parent):
        before = path.read_bytes() if path.exists() else b""
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            file.write(before[: before.rfind(b"\n") + 1] + line)
            file.flush()
            os.fsync(file.fileno())


def read_records(path: Path) -> Iterator[Record]:
    """Records of one file; a line that a crash cut off is left out.

    Raises:
        ValueError: a line of another schema version.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            continue
        if data.get("schema_version") != SCHEMA_VERSION:
            found = data.get("schema_version")
            raise ValueError(f"{path}:{number}: schema_version={found!r}: this program reads {SCHEMA_VERSION}")
        yield Record(**data)


def measured_keys(path: Path, *, retry: bool = False) -> set[tuple[str, ...]]:
    """Identities of all measurements in a file; with `retry` those that failed or ran out of time are left out."""
    again = ("failed", "timeout") if retry else ()
    return {record.key for record in read_records(path) if record.status not in again}


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other writer until the end of the block; Windows has no such lock on a folder."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
