"""Jobs measured on this machine's CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vramcast.errors import InputError
from vramcast.job import GenerationJob, TrainingJob
from vramcast.measure import Measurement, measure_generation, measure_training
from vramcast.measure.announcement import announced_runs
from vramcast.measure.recording import append_measurement
from vramcast.measure.records import read_records

SIZES = {"batch_size": 2, "sequence_length": 32, "dropout": 0.0}
NO_CUDA_THERE = {"optimizer": "adamw-loop", "attention": "math"}
"""Settings under which CPU and CUDA run the same kernels."""


def differences(measured: Measurement) -> dict[str, int]:
    """Category -> measured less forecast bytes, where they differ."""
    rows = {row.name: row.measured_bytes - row.forecast_bytes for row in measured.categories}
    return {name: nbytes for name, nbytes in rows.items() if nbytes}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention": "eager", "max_grad_norm": 1.0, "gradient_accumulation_steps": 2},
        {"checkpointing": "full", "precision": "bf16"},
        {"precision": "amp-bf16"},
    ],
)
def test_live_tensors_of_a_real_step_are_those_of_the_forecast(tiny_llama: str, settings: dict[str, Any]) -> None:
    """To the byte, but for the optimizer's step counters (fp32), which CUDA's optimizers leave in host memory."""
    measured = measure_training(TrainingJob(model=tiny_llama, **{**SIZES, **NO_CUDA_THERE, **settings}), trace=True)
    parameter_tensors = 21
    assert differences(measured) == {"optimizer_states": 4 * parameter_tensors}
    assert measured.device["kind"] == "cpu"
    (peak,) = measured.peaks
    assert peak.measured_bytes == sum(row.measured_bytes for row in measured.categories)
    assert any(f"step counters, {4 * parameter_tensors} bytes" in note for note in measured.notes)


def test_a_plain_optimizer_has_no_counters_and_no_difference(tiny_gpt2: str) -> None:
    settings = {**SIZES, **NO_CUDA_THERE, "optimizer": "sgd-momentum"}
    measured = measure_training(TrainingJob(model=tiny_gpt2, **settings), trace=True)
    assert differences(measured) == {}
    assert measured.peaks[0].error == 0


def test_what_the_cpu_runs_otherwise_is_named(tiny_gpt2: str) -> None:
    job = TrainingJob(model=tiny_gpt2, batch_size=2, sequence_length=32, dropout=0.1, precision="amp-bf16")
    notes = " ".join(measure_training(job, trace=True).notes)
    for word in ("no caching allocator", "attention on the CPU", "dropout:", "foreach", "autocast:"):
        assert word in notes


@pytest.mark.parametrize(
    ("model", "settings", "ran"),
    [
        ("gpt2", {}, True),  # the configuration's own
        ("gpt2", {"dropout": 0.0}, False),
        ("llama", {}, False),
        ("llama", {"dropout": 0.1}, True),
        ("llama", {"dropout": 0.1, "attention": "eager"}, True),
    ],
)
def test_dropout_is_named_where_it_ran(
    tiny_gpt2: str, tiny_llama: str, model: str, settings: dict[str, Any], ran: bool
) -> None:
    path = {"gpt2": tiny_gpt2, "llama": tiny_llama}[model]
    job = TrainingJob(model=path, batch_size=1, sequence_length=8, **settings)
    notes = measure_training(job, steps=1, trace=True).notes
    assert any(note.startswith("dropout:") for note in notes) is ran


def test_generation_runs_no_dropout(tiny_gpt2: str) -> None:
    job = GenerationJob(model=tiny_gpt2, prompt_length=4, max_new_tokens=2, precision="fp32")
    assert not any(note.startswith("dropout:") for note in measure_generation(job, trace=True).notes)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_live_tensors_of_a_generation(tiny_llama: str, cache: Any) -> None:
    sizes = {"batch_size": 2, "prompt_length": 16, "max_new_tokens": 8}
    job = GenerationJob(model=tiny_llama, precision="fp32", attention="eager", cache=cache, **sizes)
    measured = measure_generation(job, trace=True)
    assert measured.peaks[0].error == 0
    assert differences(measured) == {}
    names = [mark["name"] for mark in measured.readings["live"]["marks"]]
    assert names == ["after_load", "after_prefill", "after_decode"]


def test_a_record_can_be_forecast_again(tiny_gpt2: str, tmp_path: Path) -> None:
    measured = measure_training(TrainingJob(model=tiny_gpt2, **SIZES, **NO_CUDA_THERE), steps=1, trace=True)
    append_measurement(tmp_path / "measured.jsonl", measured)
    (record,) = read_records(tmp_path / "measured.jsonl")
    assert record.kind == "training"
    assert record.job["config"]["model_type"] == "gpt2"
    assert record.job["batch_size"] == 2
    assert record.readings["live"]["peak_bytes"] == measured.peaks[0].measured_bytes
    assert "first step alone" in " ".join(measured.notes)


def test_json_has_both_sides_and_the_error(tiny_gpt2: str) -> None:
    plain = json.loads(
        json.dumps(measure_training(TrainingJob(model=tiny_gpt2, **SIZES, **NO_CUDA_THERE), trace=True).to_dict())
    )
    (peak,) = plain["peaks"]
    assert peak["error"] == (peak["forecast_bytes"] - peak["measured_bytes"]) / peak["measured_bytes"]
    assert plain["forecast"]["workload"] == plain["workload"] == "training"
    assert plain["status"] == "ok"


def test_nothing_is_announced_when_it_is_over(tiny_gpt2: str) -> None:
    measure_training(TrainingJob(model=tiny_gpt2, **SIZES), steps=1, trace=True)
    assert announced_runs() == []


def test_a_snapshot_needs_a_cuda_device(tiny_gpt2: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"snapshot=.*no CUDA device"):
        measure_training(TrainingJob(model=tiny_gpt2), snapshot=tmp_path / "s.pickle")


def test_a_job_larger_than_the_machine_is_refused_before_it_is_tried(tiny_llama: str) -> None:
    with pytest.raises(InputError, match=r"batch_size x sequence_length='2000000 x 256'.*this machine has"):
        measure_training(TrainingJob(model=tiny_llama, batch_size=2_000_000, sequence_length=256), trace=True)
