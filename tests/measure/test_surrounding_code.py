"""Other people's code: a plain loop, and transformers' Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import vramcast
from vramcast.errors import VramcastError
from vramcast.hardware import find_gpu
from vramcast.measure import ForecastCallback, measured
from vramcast.virtual_cuda import VirtualGPU

WIDTH = 64
FLOAT = 4


def small_step() -> None:
    model = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(8, WIDTH)).square().mean().backward()
    optimizer.step()


def test_live_tensors_of_a_block_by_category() -> None:
    with measured() as run:
        small_step()
    categories = {row.name: row.measured_bytes for row in run.measurement.categories}
    assert categories["parameters"] == categories["gradients"] == FLOAT * WIDTH * WIDTH
    assert categories["optimizer_states"] == FLOAT * WIDTH * WIDTH
    (peak,) = run.measurement.peaks
    assert peak.name == "peak_live_bytes"
    assert peak.forecast_bytes is None
    assert run.measurement.workload == "code"


def test_tensors_from_before_count_once_they_are_used() -> None:
    before = torch.ones(1000)
    with measured() as run:
        kept = before + 1
    assert run.measurement.peaks[0].measured_bytes == 2 * FLOAT * 1000
    assert kept.sum() == 2000


def test_what_is_measured_is_there_after_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    with measured(vramcast.training("gpt2", offline=True)) as run:
        with pytest.raises(VramcastError, match="before the block"):
            _ = run.measurement
        small_step()
    run.show()
    printed = capsys.readouterr().out
    assert "training of gpt2 on cpu" in printed
    assert "parameters" in printed


def test_an_error_of_the_block_passes_and_is_measured_all_the_same() -> None:
    run = measured()
    with pytest.raises(KeyError), run:
        small_step()
        raise KeyError
    assert run.measurement.peaks[0].measured_bytes
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_without_a_watch_the_cpu_has_nothing_to_say() -> None:
    with measured(watch=False) as run:
        small_step()
    assert run.measurement.peaks == ()
    assert "CPU" in run.measurement.notes[0]


def test_on_cuda_the_allocator_is_read() -> None:
    with VirtualGPU(find_gpu("h200")):
        ballast = torch.empty(1 << 20, device="cuda")
        del ballast
        with measured() as run:
            torch.empty(1 << 10, device="cuda")
        with measured(keep_peaks=True) as whole:
            pass
    allocated = {peak.name: peak.measured_bytes for peak in run.measurement.peaks}["peak_allocated_bytes"]
    assert allocated == FLOAT << 10
    assert whole.measurement.peaks[0].measured_bytes == FLOAT << 10


def test_on_cuda_peaks_may_be_kept() -> None:
    with VirtualGPU(find_gpu("h200")):
        ballast = torch.empty(1 << 20, device="cuda")
        del ballast
        with measured(keep_peaks=True) as run:
            torch.empty(1 << 10, device="cuda")
    assert run.measurement.peaks[0].measured_bytes == FLOAT << 20


def test_the_trainer_tells_forecast_beside_measurement(tiny_gpt2: str, tmp_path: Path, capsys: Any) -> None:
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tiny_gpt2))
    rows = [{"input_ids": torch.arange(16), "labels": torch.arange(16)} for _ in range(4)]
    callback = ForecastCallback()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[callback])
    trainer.train()
    assert callback.measurement is not None
    categories = {row.name: row.measured_bytes for row in callback.measurement.categories}
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    assert categories["parameters"] == parameters
    assert categories["optimizer_states"] >= 2 * parameters
    assert any("memory_peak_live_bytes" in entry for entry in trainer.state.log_history)
    assert "peak of live tensors" in capsys.readouterr().out
