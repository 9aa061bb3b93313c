"""Two processes on CPU (gloo): ddp and fsdp train alike, and one process goes on from what they saved."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from micro_model import Train

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
    ],  # on CPUs it starts several through MPI only
}


def launched(launcher: str, models_dir: Path, text: Path, micro: str, *arguments: str) -> dict[str, Any]:
    """What `vramcast gpt train --json` prints when it is launched so."""
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "vramcast", "gpt", "train", "--json"]
    command += ["--config", micro, "--input", str(text), "--models-dir", str(models_dir), "--max-iters", "3"]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_ddp_and_fsdp_train_alike_and_one_process_goes_on(
    run_training: Train, text: Path, micro: str, models_dir: Path
) -> None:
    answers = {}
    for how in ("ddp", "fsdp"):
        common = ("--name", how, "--distributed", how, "--gradient-accumulation-steps", "2")
        answers[how] = launched("torchrun", models_dir, text, micro, *common)
    assert answers["ddp"]["losses"] == pytest.approx(answers["fsdp"]["losses"], rel=1e-5)
    assert answers["ddp"]["validation"]["bits_per_byte"] == pytest.approx(
        answers["fsdp"]["validation"]["bits_per_byte"], rel=1e-5
    )
    rest = [run_training(name=how, max_iters=5) for how in ("ddp", "fsdp")]
    assert [result.resumed_from for result in rest] == [3, 3]
    assert rest[0].losses == pytest.approx(rest[1].losses, rel=1e-5)


@pytest.mark.slow
def test_two_processes_take_the_batch_of_one(run_training: Train, text: Path, micro: str, models_dir: Path) -> None:
    alone = run_training(name="alone", batch_size=4, dropout=0.0, max_iters=3)
    for launcher, batch_size in (("torchrun", "2"), ("accelerate", "4")):
        common = ("--name", launcher, "--batch-size", batch_size, "--dropout", "0")
        launch = launched(launcher, models_dir, text, micro, *common)
        assert launch["losses"] == pytest.approx(alone.losses, rel=1e-5)
        assert alone.validation is not None
        assert launch["validation"]["nats_per_token"] == pytest.approx(alone.validation.nats_per_token, rel=1e-5)
