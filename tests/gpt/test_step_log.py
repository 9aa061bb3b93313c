"""The losses beside the model stay complete, whenever a run is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vramcast.errors import InputError
from vramcast.gpt.log import StepLog
from vramcast.gpt.loop import Loop
from vramcast.gpt.run_folder import LOG, RunFolder
from vramcast.gpt.trainee import Trainee


def logged_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / LOG).read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "name").mkdir()
    return RunFolder(tmp_path, "name")


@pytest.mark.parametrize("killed_at", [3, 5])
def test_steps_after_the_last_checkpoint_are_replaced(run: RunFolder, killed_at: int) -> None:
    lines = (json.dumps({"step": step, "loss": 9.0}) for step in range(1, killed_at + 1))
    (run.place / LOG).write_text("".join(f"{line}\n" for line in lines))
    log = StepLog(run, first_step=3)
    log.add(4, 1.5)
    log.write()
    assert logged_steps(run.place) == [1, 2, 3, 4]
    assert json.loads((run.place / LOG).read_text().splitlines()[-1])["loss"] == 1.5


def written(*steps: int) -> str:
    return "".join(json.dumps({"step": step, "loss": 9.0}) + "\n" for step in steps)


DAMAGED = [
    ("cut in the last line", written(1, 2) + '{"step": 3, "lo', [1, 2], "line 3"),
    ("cut in a number", written(1, 2) + '{"step": 3, "loss": 1.', [1, 2], "line 3"),
    ("zeros after a power cut", written(1, 2, 3) + "\0" * 40, [1, 2, 3], "line 4"),
    ("a line of no object", written(1) + "[2]\n" + written(3), [1, 3], "line 2"),
    ("a line without its step", written(1) + '{"loss": 2.0}\n' + written(3), [1, 3], "line 2"),
    ("a step that is no number", written(1) + '{"step": "2", "loss": 2.0}\n' + written(3), [1, 3], "line 2"),
    ("a number of 5000 digits", written(1) + '{"step": ' + "9" * 5000 + "}\n" + written(3), [1, 3], "line 2"),
    ("nested too deeply", written(1) + "[" * 100_000 + "\n" + written(3), [1, 3], "line 2"),
]


@pytest.mark.parametrize(("text", "kept", "told"), [row[1:] for row in DAMAGED], ids=[row[0] for row in DAMAGED])
def test_damaged_lines_are_left_out_and_told_once(run: RunFolder, text: str, kept: list[int], told: str) -> None:
    (run.place / LOG).write_text(text)
    log = StepLog(run, first_step=3)
    (note,) = log.notes
    assert told in note
    assert len(note) < 250
    log.add(4, 1.5)
    log.write()
    assert logged_steps(run.place) == [*kept, 4]
    assert StepLog(run, first_step=4).notes == []


def test_bytes_that_are_no_text_are_left_out(run: RunFolder) -> None:
    (run.place / LOG).write_bytes(written(1).encode() + b"\xff\xfe\n" + written(2).encode())
    log = StepLog(run, first_step=2)
    assert "line 2" in log.notes[0]
    log.add(3, 1.5)
    log.write()
    assert logged_steps(run.place) == [1, 2, 3]


def test_what_happens_to_the_file_during_a_run_does_not_end_it(run: RunFolder) -> None:
    (run.place / LOG).write_text(written(1))
    log = StepLog(run, first_step=1)
    log.add(2, 1.5)
    (run.place / LOG).write_text('{"step": 1, "lo')
    log.write()
    assert logged_steps(run.place) == [1, 2]


def test_a_log_that_cannot_be_read_is_refused_before_the_first_step(run: RunFolder) -> None:
    (run.place / LOG).mkdir()
    with pytest.raises(InputError, match=r"log\.jsonl'?: cannot be read: Is a directory"):
        StepLog(run, first_step=0)


def test_losses_are_written_before_the_checkpoint_they_led_to(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def kill(self: Trainee, run: RunFolder, step: int) -> None:
        raise Killed

    monkeypatch.setattr(Trainee, "save", kill)
    loop = Loop.__new__(Loop)
    loop.run, loop.log, loop.step = run, StepLog(run, first_step=0), 1
    loop.trainee = Trainee.__new__(Trainee)
    monkeypatch.setattr(Trainee, "accelerator", type("Main", (), {"is_main_process": True}), raising=False)
    loop.log.add(1, 2.0)
    with pytest.raises(Killed):
        loop._save()
    assert logged_steps(run.place) == [1]
