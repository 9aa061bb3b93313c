"""A model trained on this repository's documentation tells it better than a trigram model."""

import json
from pathlib import Path

import pytest
from repository_docs import documentation, trigram_bits_per_byte

from vramcast.gpt import train
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.text import split_text

ENOUGH = 0.2
"""Bits per byte by which the model must be better after so few steps."""


@pytest.mark.slow
def test_it_beats_a_trigram_model(tmp_path: Path) -> None:
    text = tmp_path / "docs.txt"
    text.write_text(documentation(), encoding="utf-8")
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"n_layer": 2, "n_head": 4, "n_embd": 128, "block_size": 64, "vocab_size": 2048, "batch_size": 16})
    )
    settings = TrainSettings(
        name="docs",
        input=text,
        config=str(config),
        models_dir=tmp_path / "models",
        max_iters=150,
        learning_rate=2e-3,
        warmup_iters=20,
        schedule="cosine",
        eval_interval=150,
        eval_iters=10_000,
    )
    result = train(settings)
    both, (train_span, _) = text.read_bytes(), split_text(text, settings.validation_fraction)
    trigram = trigram_bits_per_byte(both[: train_span.end], both[train_span.end :])
    assert 2 < trigram < 4
    assert result.validation is not None
    assert result.validation.bits_per_byte < trigram - ENOUGH
