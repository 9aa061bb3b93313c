"""kill -9 at random moments: what is on disk always loads and goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro_model import Train
from transformers import AutoModelForCausalLM

from vramcast.gpt.checkpoint import read_trainer_state
from vramcast.gpt.run_folder import RunFolder

LIVES = 4
MAX_ITERS = 100_000
PROGRAM = """
import sys
from pathlib import Path
from vramcast.gpt import train
from vramcast.gpt.report import Silence
from vramcast.gpt.settings import TrainSettings

class Steps(Silence):
    def step(self, reading):
        print(reading.step, flush=True)

train(TrainSettings(name="m", input=Path(sys.argv[1]), config=sys.argv[2], models_dir=Path(sys.argv[3]),
                    max_iters=int(sys.argv[4]), eval_interval=1, eval_iters=1), Steps())
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(run_training: Train, text: Path, micro: str, models_dir: Path) -> None:
    draw = random.Random(0)
    last = 0
    for _ in range(LIVES):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(text), micro, str(models_dir), str(MAX_ITERS)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        begun = int(child.stdout.readline())
        # Every step saves before the next is told, so a moment after a step is a moment of a checkpoint.
        deadline = time.perf_counter() + draw.random() * 0.2
        while time.perf_counter() < deadline:
            pass
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        state = read_trainer_state(RunFolder(models_dir, "m"))
        AutoModelForCausalLM.from_pretrained(models_dir / "m")
        assert begun - 1 <= state.step
        assert last <= state.step
        last = state.step
    assert last >= 1
    whole = run_training(name="whole", max_iters=last + 2, eval_interval=1, eval_iters=1)
    rest = run_training(name="m", max_iters=last + 2, eval_interval=1, eval_iters=1)
    assert rest.resumed_from == last
    assert rest.losses == whole.losses[last:]


def test_every_moment_of_publishing_is_whole(
    run_training: Train, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops the second save before each of its renames and deletions in turn."""
    for at in range(4):
        name = f"m{at}"
        run_training(name=name, max_iters=2)
        with monkeypatch.context() as patch:
            for method in ("replace", "unlink"):
                patch.setattr(Path, method, _dying(getattr(Path, method), at, patch))
            with pytest.raises(Died):
                run_training(name=name, max_iters=4)
        AutoModelForCausalLM.from_pretrained(models_dir / name)
        assert read_trainer_state(RunFolder(models_dir, name)).step in (2, 4)
        assert run_training(name=name, max_iters=6).step == 6


class Died(BaseException):
    """The process is gone: no handler of errors gets to run."""


_count = 0


def _dying(method: object, at: int, patch: pytest.MonkeyPatch) -> object:
    global _count
    _count = 0

    def maybe(self: Path, *arguments: object, **keywords: object) -> object:
        global _count
        if "model" in self.name or "trainer_state" in self.name or "log" in self.name:
            _count += 1
            if _count > at:
                raise Died
        return method(self, *arguments, **keywords)  # type: ignore[operator]

    return maybe
