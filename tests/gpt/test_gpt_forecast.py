"""Forecast first: of this very job, byte for byte what the loop takes, and refusing what does not fit."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_model import Train

import vramcast
from vramcast.forecast import Forecast
from vramcast.gpt.device_forecast import forecast_job, training_job
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.fitting_switches import flags_that_fit
from vramcast.gpt.processes import build_accelerator
from vramcast.gpt.report import MeasuredPeaks, Silence, StepReading
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.start import Start, named_config
from vramcast.gpt.step import training_step
from vramcast.gpt.trainee import Trainee
from vramcast.hardware import custom_gpu, find_gpu
from vramcast.measure.announcement import Announcement, announced_runs
from vramcast.views.gpt_training_rows import comparison_rows


class Told(Silence):
    """Keeps the forecasts it is told."""

    def __init__(self) -> None:
        self.forecasts: list[Forecast] = []

    def forecast(self, forecast: Forecast, gpu_is_present: bool) -> None:
        assert not gpu_is_present
        self.forecasts.append(forecast)


def test_the_forecast_is_of_this_very_job(forecasting_training: Train) -> None:
    told = Told()
    result = forecasting_training(told, batch_size=3, gpu="rtx-3060", max_iters=1)
    (forecast,) = told.forecasts
    assert forecast == result.forecast
    assert forecast.parameters == result.parameters
    assert forecast.gpu == find_gpu("rtx-3060").name
    assert (forecast.settings["batch_size"], forecast.settings["sequence_length"]) == (3, 32)
    assert result.measured is None


def test_the_folder_of_a_trained_model_is_forecast_as_it_was_trained(
    forecasting_training: Train, models_dir: Path
) -> None:
    forecasting_training(max_iters=1)
    resumed = forecasting_training(max_iters=2)
    of_folder = vramcast.training(str(models_dir / "m"), batch_size=4, max_grad_norm=1.0)
    assert resumed.resumed_from == 1
    assert of_folder == resumed.forecast


class Watching(Silence):
    """Looks at every step for runs that are announced."""

    def __init__(self) -> None:
        self.seen: list[list[Announcement]] = []

    def step(self, reading: StepReading) -> None:
        self.seen.append(announced_runs())


def test_a_run_is_announced_while_it_trains(run_training: Train) -> None:
    watching = Watching()
    forecast = run_training(watching, max_iters=2).forecast
    assert [len(runs) for runs in watching.seen] == [1, 1]
    ((run,), _) = watching.seen
    assert (run.pid, run.gpu, run.device_used_bytes) == (os.getpid(), forecast.gpu, forecast.device_used_bytes)
    assert announced_runs() == []


@pytest.mark.parametrize(
    "given",
    [{}, {"precision": "amp-bf16"}, {"precision": "amp-fp16"}, {"precision": "bf16"}, {"checkpointing": "full"}],
    ids=str,
)
def test_the_loop_takes_what_was_forecast(given: dict[str, Any]) -> None:
    """The very functions that train, run on the virtual GPU: what CUDA would report there is the forecast."""
    settings = TrainSettings(name="m", input=Path("text"), config="tiny_char", **given)
    config = named_config(settings)
    job = training_job(settings, config)
    gpu = find_gpu("a100-80gb")
    forecast = forecast_job(job, config, gpu)
    with vramcast.virtual_gpu(gpu.name) as machine:
        accelerator = build_accelerator(settings)
        trainee = Trainee.build(settings, job, Start(config, None, None), accelerator)
        for _ in range(3):
            batches = machine.host_tensor((1, job.batch_size, job.sequence_length), torch.long)
            training_step(accelerator, trainee.model, trainee.stepping, batches, settings)
        measured = MeasuredPeaks(
            peak_allocated_bytes=torch.cuda.max_memory_allocated(), peak_reserved_bytes=torch.cuda.max_memory_reserved()
        )
    assert measured.peak_allocated_bytes == forecast.peak_allocated_bytes
    assert measured.peak_reserved_bytes == forecast.peak_reserved_bytes
    assert [row.error for row in comparison_rows(forecast, measured)] == ["+0.00%", "+0.00%"]


def test_what_does_not_fit_is_not_started(
    run_training: Train, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = custom_gpu(1 << 20)
    monkeypatch.setattr("vramcast.gpt.forecast_first.gpu_present", lambda: small)
    monkeypatch.setattr("vramcast.gpt.forecast_first.flags_that_fit", lambda *given: "--checkpointing full")
    refusing = forecast_that_does_not_fit()
    monkeypatch.setattr("vramcast.gpt.forecast_first.forecast_job", lambda *given: refusing)
    with pytest.raises(DoesNotFitError, match=r"it would with: --checkpointing full\. --force"):
        run_training()
    assert not list(models_dir.iterdir())
    assert run_training(max_iters=1, force=True).step == 1


def forecast_that_does_not_fit() -> Forecast:
    return vramcast.training("tiny_char", gpu="custom", gpu_memory="64MiB")


def test_the_switches_named_make_it_fit() -> None:
    settings = TrainSettings(name="m", input=Path("text"), config="tiny_char", batch_size=256)
    config = named_config(settings)
    job = training_job(settings, config)
    smaller = forecast_job(job.model_copy(update={"checkpointing": "full"}), config, find_gpu("a100-80gb"))
    gpu = custom_gpu(smaller.device_used_bytes_high)
    assert forecast_job(job, config, gpu).verdict != "fits"
    flags = flags_that_fit(
        job,
        gpu,
        lambda changed: forecast_job(changed, config, gpu).device_used_bytes,
        lambda changed: forecast_job(changed, config, gpu).verdict == "fits",
    )
    assert flags is not None
    thrown = {name.replace("-", "_"): value or True for name, value in re.findall(r"--(\S+)(?: (?!--)(\S+))?", flags)}
    changed = settings.model_validate(settings.model_dump() | thrown)
    assert forecast_job(training_job(changed, config), config, gpu).verdict == "fits"
