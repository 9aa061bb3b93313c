"""Records of the campaign: one JSON object a line, written so that a killed campaign loses at most the job at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

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


def append_record(path: Path, record: Record) -> None:
    """Write one line and see it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    needs_newline = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * needs_newline + json.dumps(asdict(record), sort_keys=True) + "\n")
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
