"""Rehearsals in a process of their own: a launched process has its real process group and its GPU, and the virtual ones need neither.

Run as a module it reads a question as JSON from stdin and writes lines of JSON to stdout: progress, and at last the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from tempfile import TemporaryFile
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict

from vramcast.errors import RecordingError, VramcastError
from vramcast.forecast import Forecast
from vramcast.gpt.settings import Distribution, TrainSettings
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress

_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # the real card is left alone
    "ACCELERATE_USE_CPU": "false",  # the launcher's word for the real processes
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # DDP times CPU and CUDA alone, and says so
}


class Question(BaseModel):
    """A run as one of several processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: TrainSettings
    job: TrainingJob
    config: ModelConfig
    gpu: GPU
    processes: int


def ask_forecast(question: Question, progress: Progress | None = None) -> Forecast:
    """The forecast of one GPU of several.

    Raises:
        RecordingError: there is none; says why.
    """
    return Forecast.model_validate(_ask("forecast", question, progress))


def ask_flags_that_fit(question: Question, progress: Progress | None = None) -> str | None:
    """Switches with which one of the processes fits, as written on the command line; None where none would do.

    Raises:
        RecordingError: the job cannot be rehearsed; says why.
    """
    flags: str | None = _ask("flags", question, progress)
    return flags


def _ask(what: Literal["forecast", "flags"], question: Question, progress: Progress | None) -> Any:
    """The answer of the other process; while it works, its progress is passed on."""
    command = [sys.executable, "-m", __name__, what]
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=os.environ | _ENVIRONMENT,
        ) as other,
    ):
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(question.model_dump_json())
        other.stdin.close()
        for line in other.stdout:
            told = json.loads(line)
            if "answer" in told:
                return told["answer"]
            if "error" in told:
                raise RecordingError(told["error"])
            if progress is not None:
                progress(*told["progress"])
        other.wait()
        raise RecordingError(f"the job could not be forecast for {question.processes} processes: {_last_line(said)}")


def _last_line(said: IO[str]) -> str:
    said.seek(0)
    return next((line.strip() for line in reversed(said.readlines()) if line.strip()), "the process ended silently")


def main(what: str) -> None:
    """Answer the question on stdin."""
    told = sys.stdout
    with redirect_stdout(sys.stderr):  # libraries may print
        question = Question.model_validate_json(sys.stdin.read())

        def tell(**message: Any) -> None:
            print(json.dumps(message), file=told, flush=True)

        try:
            tell(answer=_answer(what, question, lambda *progress: tell(progress=progress)))
        except VramcastError as error:
            tell(error=str(error))


def _answer(what: str, question: Question, progress: Progress) -> Any:
    from vramcast.gpt.device_forecast import forecast_job
    from vramcast.gpt.fitting_switches import flags_that_fit_spread
    from vramcast.gpt.rehearsal import rehearsed_forecast

    settings, job, config, gpu, processes = (getattr(question, name) for name in Question.model_fields)
    if what == "forecast":
        return rehearsed_forecast(settings, job, config, gpu, processes, progress).to_dict()

    @cache
    def rehearsed(job: TrainingJob, how: Distribution) -> Forecast:
        spread = settings.model_copy(update={"distributed": how})
        return rehearsed_forecast(spread, job, config, gpu, processes, progress)

    @cache
    def alone(job: TrainingJob) -> Forecast:
        return forecast_job(job, config, gpu, progress)

    return flags_that_fit_spread(job, gpu, settings.distributed, rehearsed, alone)


if __name__ == "__main__":
    main(sys.argv[1])
