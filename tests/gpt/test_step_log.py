"""The losses beside the model stay complete, whenever a run is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
