"""Jobs measured on a virtual card: forecast and measurement are equal to the byte.

Both sides are the simulation, by different routes: a tape (or a trace) replayed, and the measuring loop, which reads `torch.cuda`, the
driver and, in one more step, every tensor.
"""

from __future__ import annotations

from typing import Any

import pytest
from virtual_card import CARD, PEAKS, differences, measured_on_card

from vramcast.job import GenerationJob, TrainingJob

TRAINED = {"batch_size": 2, "sequence_length": 32, "gpu": CARD}
GENERATED = {"batch_size": 2, "prompt_length": 16, "max_new_tokens": 8, "gpu": CARD}


@pytest.fixture
def models(tiny_gpt2: str, tiny_llama: str) -> dict[str, str]:
    return {"gpt2": tiny_gpt2, "llama": tiny_llama}


@pytest.mark.parametrize(
    ("engine", "model", "settings"),
    [
        ("tape", "gpt2", {}),
        ("tape", "gpt2", {"precision": "amp-bf16"}),
        ("tape", "gpt2", {"precision": "bf16", "dropout": 0.0}),
        ("tape", "gpt2", {"precision": "amp-fp16", "max_grad_norm": 1.0}),
        ("trace", "gpt2", {"checkpointing": "full", "optimizer": "adamw-fused"}),
        ("trace", "llama", {"precision": "bf16"}),
        ("trace", "llama", {"gradient_accumulation_steps": 2, "attention": "eager"}),
        ("trace", "llama", {"optimizer": "adafactor", "precision": "amp-bf16"}),
    ],
)
def test_training_reads_what_is_forecast(
    models: dict[str, str], engine: str, model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainingJob(model=models[model], **TRAINED, **settings)
    measured = measured_on_card(job, monkeypatch, trace=engine == "trace")
    assert measured.forecast is not None
    assert measured.forecast.engine == engine
    assert [peak.name for peak in measured.peaks] == PEAKS
    assert len(measured.instants) == 5
    assert {row.name for row in measured.categories} >= {"parameters", "optimizer_states"}
    assert differences(measured) == {}


@pytest.mark.parametrize(
    ("engine", "model", "settings"),
    [
        ("tape", "gpt2", {"cache": "dynamic"}),
        ("trace", "llama", {"cache": "dynamic", "kv_cache_dtype": "fp16"}),
        ("trace", "llama", {"cache": "static", "precision": "fp32"}),
    ],
)
def test_generation_reads_what_is_forecast(
    models: dict[str, str], engine: str, model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = GenerationJob(model=models[model], **GENERATED, **settings)
    measured = measured_on_card(job, monkeypatch, trace=engine == "trace")
    assert measured.forecast is not None
    assert measured.forecast.engine == engine
    assert [peak.name for peak in measured.peaks] == PEAKS
    assert [row.name for row in measured.instants] == ["after_load", "after_prefill", "after_decode"]
    assert "kv_cache" in {row.name for row in measured.categories}
    assert differences(measured) == {}
