"""`gpt generate` forecasts what greedy decoding takes, byte for byte, where it can do so without delay."""

from pathlib import Path
from typing import Any

import pytest
import torch
from micro_model import Train
from transformers.generation.streamers import BaseStreamer

import vramcast
from vramcast.cli import main
from vramcast.forecast import Forecast
from vramcast.gpt import generate
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.generating import GenerationResult, _continue
from vramcast.gpt.generation_forecast import forecast_generation, windows
from vramcast.gpt.report import Silence
from vramcast.gpt.settings import GenerateSettings
from vramcast.hardware import custom_gpu, find_gpu
from vramcast.models import load_model
from vramcast.record.building import ModelBuilder, weight_dtype


class Told(Silence):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.forecasts: list[Forecast] = []
        self.notes: list[str] = []

    def forecast(self, forecast: Forecast, gpu_is_present: bool) -> None:
        self.forecasts.append(forecast)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def trained(run_training: Train, models_dir: Path) -> Path:
    run_training(max_iters=1, eval_iters=1)
    return models_dir


def generated(models_dir: Path, told: Told, **given: Any) -> GenerationResult:
    defaults: dict[str, Any] = {"name": "m", "models_dir": models_dir, "prompt": "the tape", "max_new_tokens": 6}
    return generate(GenerateSettings(**defaults | given), report=told)


class Nobody(BaseStreamer):  # type: ignore[misc]
    """Tokens of the virtual GPU have no value."""

    def put(self, value: torch.Tensor) -> None:
        pass

    def end(self) -> None:
        pass


def forecast_and_taken(precision: str, new_tokens: int) -> tuple[Forecast, tuple[int, int]]:
    """Of a prompt of 9 tokens: the forecast, and what `gpt generate`'s own loop takes on the virtual GPU."""
    config = load_model("tiny_char")
    given: dict[str, Any] = {"precision": precision, "max_new_tokens": new_tokens, "gpu": "rtx-3060"}
    settings = GenerateSettings(prompt="x", greedy=True, forecast=True, **given)
    forecast = forecast_generation(settings, config, 9, Silence())
    assert forecast is not None
    build = ModelBuilder(config, attention="sdpa", dtype=weight_dtype(precision))
    with vramcast.virtual_gpu("rtx-3060"):
        model = build().to("cuda").eval()
        _continue(model, [0] * 9, config.dimensions.context_length, settings, Nobody())
        return forecast, (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_generation_takes_what_was_forecast(precision: str) -> None:
    forecast, taken = forecast_and_taken(precision, new_tokens=30)
    assert taken == (forecast.peak_allocated_bytes, forecast.peak_reserved_bytes)


@pytest.mark.slow
def test_past_the_context_each_reading_is_forecast_alone() -> None:
    """The second meets blocks that the first left: up to 1 MiB of a block is not split off (`CUDACachingAllocator.cpp`, kSmallSize)."""
    forecast, taken = forecast_and_taken("fp32", new_tokens=150)
    assert 0 <= taken[0] - forecast.peak_allocated_bytes < 1 << 20
    assert taken[1] == forecast.peak_reserved_bytes


def test_windows_make_every_token_once() -> None:
    assert list(windows(3, 10, 32)) == [(3, 10)]
    assert list(windows(3, 60, 32)) == [(3, 29), (16, 16), (16, 15)]
    assert list(windows(40, 5, 32)) == [(16, 5)]
    assert list(windows(1, 3, 1)) == [(1, 1)] * 3


def test_without_a_gpu_it_is_forecast_if_asked(trained: Path) -> None:
    told = Told()
    result = generated(trained, told)
    assert (result.forecast, result.measured, told.forecasts, told.notes) == (None, None, [], [])
    result = generated(trained, told, forecast=True, gpu="rtx-3060")
    assert told.forecasts == [result.forecast]
    assert result.forecast is not None
    assert result.forecast.gpu == find_gpu("rtx-3060").name
    assert result.forecast.settings["max_new_tokens"] == 6


def test_what_is_not_forecast_is_said(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vramcast.gpt.generation_forecast.gpu_present", lambda: find_gpu("rtx-3060"))
    told = Told()
    assert generated(trained, told, kv_cache=False).forecast is None
    assert generated(trained, told, max_new_tokens=2).forecast is None  # of so few tokens there is no tape
    assert [note.split(":")[0] for note in told.notes] == ["no forecast", "no forecast"]
    assert "--forecast does so" in told.notes[1]
    assert generated(trained, told, forecast=False).forecast is None
    assert len(told.notes) == 2
    assert generated(trained, told).forecast == told.forecasts[0]


def test_what_does_not_fit_is_not_loaded(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = custom_gpu(1 << 20)
    monkeypatch.setattr("vramcast.gpt.generation_forecast.gpu_present", lambda: small)
    with monkeypatch.context() as patch:
        patch.setattr("vramcast.gpt.generating.load_folder", None)
        with pytest.raises(DoesNotFitError, match="--force generates all the same"):
            generated(trained, Told())
    assert len(generated(trained, Told(), force=True).tokens) == 6


def test_half_precision_is_named_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_model("150M")
    asked = GenerateSettings(prompt="x", max_new_tokens=20, forecast=True, gpu="rtx-3060")
    half = forecast_generation(asked.model_copy(update={"precision": "bf16"}), config, 9, Silence())
    assert half is not None
    enough = half.device_used_bytes_high
    card = find_gpu("rtx-3060").with_memory(enough)
    monkeypatch.setattr("vramcast.gpt.generation_forecast.gpu_present", lambda: card)
    with pytest.raises(DoesNotFitError) as refused:
        forecast_generation(asked, config, 9, Silence())
    assert refused.value.flags == "--precision bf16"


def test_stdout_is_text_alone(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["gpt", "generate", "--name", "m", "--models-dir", str(trained), "--prompt", "the tape", "--seed", "1"]
    said = []
    for more in ([], ["--forecast", "--gpu", "rtx-3060"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        assert ended.value.code == 0
        said.append(capsys.readouterr())
    assert said[0].out == said[1].out
    assert "FITS  needs" not in said[0].err
    assert "FITS  needs" in said[1].err
