"""Other people's code on a card: a plain loop in the context manager, transformers' Trainer with the callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from virtual_card import CARD, differences, virtual_card

import vramcast
from vramcast.forecast import Forecast
from vramcast.hardware import find_gpu
from vramcast.measure import ForecastCallback, measured
from vramcast.measure.announcement import announced_runs
from vramcast.virtual_cuda import VirtualGPU

BATCH, LENGTH = 2, 32


def causal_model(path: str) -> Any:
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(path))


def plain_loop(path: str) -> None:
    """What a user would write; the loss and the batch of a step live until the next ones take their names."""
    model = causal_model(path).cuda().train()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        batch = torch.randint(1000, (BATCH, LENGTH)).cuda()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        del batch, loss


def test_a_plain_loop_takes_its_forecast(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forecast = vramcast.training(
        tiny_gpt2, batch_size=BATCH, sequence_length=LENGTH, precision="amp-bf16", gpu=CARD, offline=True
    )
    with virtual_card(monkeypatch):
        with measured(forecast) as run:
            assert [announced.what for announced in announced_runs()] == ["training of tiny-gpt2"]
            plain_loop(tiny_gpt2)
    assert len(run.measurement.peaks) == 3
    assert differences(run.measurement) == {}
    assert run.measurement.notes == ()


def trained(path: str, folder: Path, *callbacks: Any) -> Any:
    rows = [{"input_ids": torch.arange(LENGTH), "labels": torch.arange(LENGTH)} for _ in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=BATCH,
        bf16=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        model=causal_model(path), args=arguments, train_dataset=rows, callbacks=list(callbacks)
    )
    trainer.train()
    return trainer


def test_a_trainer_takes_what_its_dry_run_said(
    tiny_gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The forecast is that of the same script, run on the virtual GPU without the callback."""
    with VirtualGPU(find_gpu(CARD)) as gpu:
        trained(tiny_gpt2, tmp_path)
        forecast: Forecast = gpu.forecast()
    callback = ForecastCallback(forecast)
    with virtual_card(monkeypatch):
        trainer = trained(tiny_gpt2, tmp_path, callback)
    assert callback.measurement is not None
    assert len(callback.measurement.peaks) == 3
    assert differences(callback.measurement) == {}
    peaks = next(entry for entry in trainer.state.log_history if "memory_peak_reserved_bytes" in entry)
    assert peaks["memory_peak_reserved_bytes"] == forecast.peak_reserved_bytes
    assert "peak reserved" in capsys.readouterr().out


def test_out_of_memory_in_the_block_passes_and_is_measured(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measured()
    with virtual_card(monkeypatch, capacity_bytes=16 << 20):
        with pytest.raises(torch.OutOfMemoryError), run:
            plain_loop(tiny_gpt2)
    peaks = {peak.name: peak.measured_bytes for peak in run.measurement.peaks}
    assert 0 < peaks["peak_reserved_bytes"] <= 16 << 20
