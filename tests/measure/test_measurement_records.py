from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from vramcast.errors import InputError
from vramcast.measure.records import (
    STATUSES,
    Record,
    append_record,
    check_appendable,
    measured_keys,
    read_records,
    record_key,
)

VERSIONS = {"torch": "2.11.0", "transformers": "5.17.0"}
GPU = {"name": "NVIDIA H200"}
KEYS = {
    "schema_version",
    "id",
    "kind",
    "job",
    "readings",
    "versions",
    "gpu",
    "status",
    "message",
    "seconds",
    "date",
}


def _record(job_id: str = "train-x", status: str = "ok") -> Record:
    return Record(job_id, "training", {"model": "gpt2"}, {"peak_allocated_bytes": 1}, VERSIONS, GPU, status)


@pytest.mark.parametrize("status", STATUSES)
def test_a_record_comes_back_from_its_line(tmp_path: Path, status: str) -> None:
    path = tmp_path / "folder" / "r.jsonl"
    append_record(path, _record(status=status))
    assert list(read_records(path)) == [_record(status=status)]
    assert json.loads(path.read_text()).keys() == KEYS == asdict(_record()).keys()


def test_lines_are_appended_also_after_one_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_record(path, _record("a"))
    with path.open("a") as file:
        file.write('{"id": "b", "sch')
    append_record(path, _record("c"))
    assert [record.id for record in read_records(path)] == ["a", "c"]


def test_a_measurement_is_known_by_job_libraries_and_gpu(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert measured_keys(path) == set()
    append_record(path, _record("a", "timeout"))
    known = measured_keys(path)
    assert measured_keys(path, retry=True) == set()
    assert record_key("a", VERSIONS, GPU) in known
    assert record_key("b", VERSIONS, GPU) not in known
    assert record_key("a", VERSIONS | {"torch": "2.13.0"}, GPU) not in known
    assert record_key("a", VERSIONS, {"name": "NVIDIA A100"}) not in known


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"schema_version": 99}\n')
    with pytest.raises(ValueError, match="schema_version=99"):
        list(read_records(path))


def test_a_line_that_was_cut_off_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_record(path, _record("a"))
    with path.open("a") as file:
        file.write('{"id": "b", "sch')
    append_record(path, _record("c"))
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    append_record(path, _record("a"))
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        append_record(path, _record("b"))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["r.jsonl"]


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    names = [f"job-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: append_record(path, _record(name)), names))
    assert sorted(record.id for record in read_records(path)) == sorted(names)


def test_where_a_record_cannot_go_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_appendable(tmp_path / "new" / "folders" / "r.jsonl")
    for path in (tmp_path, tmp_path / "file" / "r.jsonl"):
        with pytest.raises(InputError, match="record="):
            check_appendable(path)
