"""`vramcast measure` from its command line on a virtual card."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from virtual_card import CARD, forecast_beforehand, virtual_card

from vramcast.allocator import read_snapshot
from vramcast.cli import main
from vramcast.job import GenerationJob, TrainingJob
from vramcast.measure.records import read_records

TRAINED = {"batch_size": 2, "sequence_length": 32}
GENERATED = {"prompt_length": 16, "max_new_tokens": 4}
Command = Callable[..., int]


@pytest.fixture
def command(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `vramcast measure` on the card and returns the exit code."""

    def run(workload: str, *arguments: str, **card: Any) -> int:
        fields = TRAINED if workload == "training" else GENERATED
        job: Any = (TrainingJob if workload == "training" else GenerationJob)(model=tiny_gpt2, gpu=CARD, **fields)
        flags = [part for name, value in fields.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        with on_card(job, monkeypatch, card), pytest.raises(SystemExit) as end:
            main(["measure", workload, tiny_gpt2, *flags, *arguments])
        assert isinstance(end.value.code, int)
        return end.value.code

    return run


@contextmanager
def on_card(job: Any, monkeypatch: pytest.MonkeyPatch, card: dict[str, Any]) -> Iterator[None]:
    with forecast_beforehand(job, monkeypatch), virtual_card(monkeypatch, **card):
        yield


def test_what_is_printed_has_no_error(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("training") == 0
    printed = capsys.readouterr().out
    assert "training of tiny-gpt2 on NVIDIA H200" in printed
    for row in ("peak allocated", "peak reserved", "device used", "allocated after backward", "optimizer states"):
        (line,) = (line for line in printed.splitlines() if line.startswith(row))
        assert line.rstrip().endswith("+0.00 %")
    assert "watched after the readings of the allocator" in " ".join(printed.split())


def test_json_snapshot_and_two_records(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, snapshot = tmp_path / "measured.jsonl", tmp_path / "run.pickle"
    for workload in ("training", "generation"):
        assert command(workload, "--record", str(record), "--snapshot", str(snapshot), "--json") == 0
        answer = json.loads(capsys.readouterr().out)
        assert [row["error"] for row in answer["peaks"]] == [0, 0, 0]
        assert answer["device"]["kind"] == "cuda"
        assert read_snapshot(snapshot).traces
    assert [(kept.kind, kept.status) for kept in read_records(record)] == [("training", "ok"), ("generation", "ok")]


def test_out_of_memory_is_exit_code_1_and_a_record(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "measured.jsonl"
    assert command("training", "--record", str(record), capacity_bytes=16 << 20) == 1
    printed = capsys.readouterr()
    assert "OUT OF MEMORY  CUDA out of memory. Tried to allocate" in printed.out
    assert "peak reserved" in printed.out
    assert printed.err == ""
    (kept,) = read_records(record)
    assert kept.status == "oom"
    assert command("training", "--json", capacity_bytes=16 << 20) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "oom"
