"""Runs of the micro model, with the forecast made once for all where a test is not about it."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_model import MICRO, SENTENCES, Train

from vramcast.forecast import Forecast, training_forecast
from vramcast.gpt import train
from vramcast.gpt.report import Silence, TrainingResult
from vramcast.gpt.settings import TrainSettings
from vramcast.job import TrainingJob


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from a second thread, and on a busy machine they would wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """8 kB that repeat with variations, some beyond ASCII."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{SENTENCES}{number} × {number * number} é\n" for number in range(70)), encoding="utf-8")
    return path


@pytest.fixture
def micro(tmp_path: Path) -> str:
    """A GPT of two layers in the short form that people write."""
    path = tmp_path / "micro.json"
    path.write_text(json.dumps(MICRO), encoding="utf-8")
    return str(path)


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def forecasting_training(text: Path, micro: str, models_dir: Path) -> Train:
    """Trains as users do, the forecast of every job included."""

    def run(report: Any = None, **settings: Any) -> TrainingResult:
        defaults: dict[str, Any] = {"name": "m", "input": text, "models_dir": models_dir}
        defaults |= {"max_iters": 4, "eval_interval": 2}
        if "pretrained" not in settings:
            defaults["config"] = micro
        return train(TrainSettings(**defaults | settings), report or Silence())

    return run


@pytest.fixture
def run_training(forecasting_training: Train, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains with the forecast of some other job: recording a tape for each would take most of the time."""
    monkeypatch.setattr("vramcast.gpt.forecast_first.forecast_job", lambda *given: some_forecast())
    return forecasting_training


@cache
def some_forecast() -> Forecast:
    """Of a preset whose tape ships."""
    return training_forecast(TrainingJob(model="tiny_char"))
