"""Two processes on CPU (gloo): ddp and fsdp train alike, and one process goes on from what they saved."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from accelerate import Accelerator
from micro_model import Train

from vramcast.forecast import Forecast
from vramcast.gpt.processes import launched_alone

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# Without --multi_gpu accelerate starts several processes on CPUs through MPI only; port 0 is any that is free.
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
ACCELERATE_ALONE = ("accelerate.commands.launch", "--cpu", "--num_processes", "2")


class Launched(NamedTuple):
    """What a launched run printed."""

    answer: dict[str, Any]
    stderr: str


def launched(launcher: tuple[str, ...], models_dir: Path, text: Path, micro: str, *arguments: str) -> Launched:
    """What `vramcast gpt train --json` prints when it is launched so."""
    command = [sys.executable, "-m", *launcher, "-m", "vramcast", "gpt", "train", "--json"]
    command += ["--config", micro, "--input", str(text), "--models-dir", str(models_dir), "--max-iters", "3"]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return Launched(json.loads(done.stdout), done.stderr)


@pytest.mark.slow
def test_ddp_and_fsdp_train_alike_and_one_process_goes_on(
    run_training: Train, text: Path, micro: str, models_dir: Path
) -> None:
    answers = {}
    for how in ("ddp", "fsdp"):
        common = ("--name", how, "--distributed", how, "--gradient-accumulation-steps", "2")
        answers[how] = launched(TORCHRUN, models_dir, text, micro, *common).answer
    assert answers["ddp"]["losses"] == pytest.approx(answers["fsdp"]["losses"], rel=1e-5)
    assert answers["ddp"]["validation"]["bits_per_byte"] == pytest.approx(
        answers["fsdp"]["validation"]["bits_per_byte"], rel=1e-5
    )
    forecasts = {how: Forecast.model_validate(answer["forecast"]) for how, answer in answers.items()}
    for how, forecast in forecasts.items():
        assert (forecast.settings["distributed"], forecast.settings["processes"]) == (how, 2)
        assert forecast.parameters == answers[how]["parameters"]
    held = {how: {item.category: item.bytes for item in forecast.breakdown} for how, forecast in forecasts.items()}
    assert held["fsdp"]["optimizer_states"] < held["ddp"]["optimizer_states"]
    rest = [run_training(name=how, max_iters=5) for how in ("ddp", "fsdp")]
    assert [result.resumed_from for result in rest] == [3, 3]
    assert rest[0].losses == pytest.approx(rest[1].losses, rel=1e-5)


@pytest.mark.slow
def test_two_processes_take_the_batch_of_one(run_training: Train, text: Path, micro: str, models_dir: Path) -> None:
    alone = run_training(name="alone", batch_size=4, dropout=0.0, max_iters=3)
    for name, launcher in (("torchrun", TORCHRUN), ("accelerate", ACCELERATE)):
        common = ("--name", name, "--batch-size", "2", "--dropout", "0")
        answer = launched(launcher, models_dir, text, micro, *common).answer
        assert answer["processes"] == 2
        assert answer["losses"] == pytest.approx(alone.losses, rel=1e-5)
        assert alone.validation is not None
        assert answer["validation"]["nats_per_token"] == pytest.approx(alone.validation.nats_per_token, rel=1e-5)


@pytest.mark.slow
def test_a_launcher_that_starts_fewer_processes_is_told_of(text: Path, micro: str, models_dir: Path) -> None:
    alone = launched(ACCELERATE_ALONE, models_dir, text, micro, "--name", "m")
    assert alone.answer["processes"] == 1
    assert "started this one alone" in " ".join(alone.stderr.split())


def test_a_single_process_that_was_asked_for_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = cast(Accelerator, SimpleNamespace(num_processes=1))
    for name in ("WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert not launched_alone(accelerator)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert launched_alone(accelerator)
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun says how many there are
    assert not launched_alone(accelerator)
