"""Branches of `vramcast measure` that need a card, on a virtual one: what is full, missing, set otherwise or written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_nvml import FakeNVML
from virtual_card import CARD, PEAKS, differences, forecast_beforehand, measured_on_card, virtual_card

from vramcast.allocator import (
    AllocatorConfig,
    compare_with_snapshot,
    read_snapshot,
    replay,
    snapshot_config,
    snapshot_to_timeline,
)
from vramcast.errors import InputError
from vramcast.hardware import find_gpu
from vramcast.job import TrainingJob
from vramcast.measure import measure_training, measured
from vramcast.measure.device import gpu_present, is_out_of_memory
from vramcast.measure.recording import append_measurement
from vramcast.measure.records import read_records

TRAINED = {"batch_size": 2, "sequence_length": 32, "gpu": CARD}


def test_the_forecast_is_for_the_card_that_is_present(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TrainingJob(model=tiny_gpt2, batch_size=2, sequence_length=32, gpu="rtx-3090")
    measured = measured_on_card(job, monkeypatch)
    assert measured.device["name"] == "NVIDIA H200"
    assert measured.forecast is not None
    assert measured.forecast.gpu == "h200"


def test_a_second_job_of_a_process_has_peaks_of_its_own(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TrainingJob(model=tiny_gpt2, **TRAINED)
    with forecast_beforehand(job, monkeypatch), virtual_card(monkeypatch):
        ballast = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
        del ballast
        measured = measure_training(job)
        assert differences(measured) == {}
        kept = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
        again = measure_training(job)
    # What is kept, and the workspace that cuBLAS has had since the first job.
    left = next(row.measured_bytes - row.forecast_bytes for row in again.instants if row.name == "after_load")
    assert left > kept.nbytes
    assert any("this process had allocated before" in note for note in again.notes)
    assert not any("before" in note for note in measured.notes)


def test_an_allocator_that_is_set_otherwise_is_said(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AllocatorConfig(expandable_segments=True)
    job = TrainingJob(model=tiny_gpt2, **TRAINED, expandable_segments=True)
    measured = measured_on_card(job, monkeypatch, card={"allocator_config": settings})
    assert any(
        "runs with PyTorch's defaults, and is forecast with expandable_segments:True" in n for n in measured.notes
    )
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", settings.to_environment_string())
    measured = measured_on_card(job, monkeypatch, card={"allocator_config": settings})
    assert not any("the allocator runs with" in note for note in measured.notes)
    assert differences(measured) == {}


def test_out_of_memory_is_read_too(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TrainingJob(model=tiny_gpt2, **TRAINED)
    measured = measured_on_card(job, monkeypatch, card={"capacity_bytes": 16 << 20})
    assert (measured.status, measured.categories, measured.instants) == ("oom", (), ())
    assert measured.message.startswith("CUDA out of memory. Tried to allocate")
    peaks = {peak.name: peak.measured_bytes for peak in measured.peaks}
    assert 0 < peaks["peak_reserved_bytes"] <= 16 << 20


def test_no_room_for_the_watched_step_is_said(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vramcast.measure.training.training_step", _is_full)
    measured = measured_on_card(TrainingJob(model=tiny_gpt2, **TRAINED), monkeypatch)
    assert (measured.status, measured.categories) == ("ok", ())
    assert differences(measured) == {}
    assert any("categories could not be measured" in note for note in measured.notes)


def _is_full(*args: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (2)"), False),
    ],
)
def test_a_full_card_has_several_errors(error: RuntimeError, is_full: bool) -> None:
    assert is_out_of_memory(error) is is_full


def test_other_errors_of_the_card_pass(tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TrainingJob(model=tiny_gpt2, **TRAINED)
    with forecast_beforehand(job, monkeypatch), virtual_card(monkeypatch):
        monkeypatch.setattr("vramcast.measure.training.run_training", _asserts)
        with pytest.raises(torch.AcceleratorError, match="device-side"):
            measure_training(job)


def _asserts(*args: Any, **kwargs: Any) -> None:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered")


# -- the snapshot ------------------------------------------------------------------------------------------------------


def test_the_snapshot_of_a_measurement_replays_to_its_peaks(
    tiny_gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pickle"
    measured = measured_on_card(TrainingJob(model=tiny_gpt2, **TRAINED), monkeypatch, snapshot=path)
    snapshot = read_snapshot(path)
    result = replay(snapshot_to_timeline(snapshot), snapshot_config(snapshot))
    peaks = {peak.name: peak.measured_bytes for peak in measured.peaks}
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (
        peaks["peak_allocated_bytes"],
        peaks["peak_reserved_bytes"],
    )
    assert compare_with_snapshot(snapshot) == ()
    assert [file.name for file in tmp_path.glob("*.pickle")] == ["run.pickle"]


@pytest.mark.parametrize("name", ["", "missing/run.pickle"])
def test_a_snapshot_that_could_not_be_written_is_refused_first(
    tiny_gpt2: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with virtual_card(monkeypatch), pytest.raises(InputError, match="snapshot="):
        measure_training(TrainingJob(model=tiny_gpt2, **TRAINED), snapshot=tmp_path / name)


def test_a_full_disk_loses_the_snapshot_alone(tiny_gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    job = TrainingJob(model=tiny_gpt2, **TRAINED)
    with forecast_beforehand(job, monkeypatch), virtual_card(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(torch.cuda.memory, "_dump_snapshot", full)
        measured = measure_training(job, snapshot=tmp_path / "run.pickle")
    assert any("could not be written (No space left on device)" in note for note in measured.notes)
    assert differences(measured) == {}
    assert list(tmp_path.glob("*.pickle*")) == []


# -- the card that is present ------------------------------------------------------------------------------------------


def test_the_card_present_has_what_is_free_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_present() is None
    with virtual_card(monkeypatch), monkeypatch.context() as patch:
        gpu = gpu_present()
        row = find_gpu(CARD)
        assert gpu == row.with_cuda_total(row.cuda_total_bytes, "free on the card that is present", is_read=True)
        _ = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        fuller = gpu_present()
        assert fuller is not None
        assert gpu.cuda_total_bytes - fuller.cuda_total_bytes == 1 << 30
        assert fuller.cuda_total_low_bytes == fuller.cuda_total_high_bytes == fuller.cuda_total_bytes
        assert fuller.memory_total_bytes == row.memory_total_bytes
        # A card that is not in the hardware file is one of its compute capability, not an A100.
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200 MIG 1g.18gb")
        part = gpu_present()
    assert part is not None
    assert (part.name, part.compute_capability) == ("custom", (9, 0))


@pytest.mark.parametrize(
    ("nvml", "why"),
    [
        (FakeNVML(uuids=["GPU-of-another-card"]), "does not tell the processes of GPU"),
        (FakeNVML(fails_at_start=True), "Driver Not Loaded"),
        (FakeNVML([("x", 9, 9, [(os.getpid(), None)])], uuids=["{card}"]), "does not tell the memory of this process"),
        (FakeNVML([("x", 9, 9, [(1, 5)])], uuids=["{card}"]), "they are another's"),
    ],
)
def test_without_the_drivers_figure_the_rest_is_measured(
    tiny_gpt2: str, nvml: FakeNVML, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TrainingJob(model=tiny_gpt2, **TRAINED)
    with forecast_beforehand(job, monkeypatch), virtual_card(monkeypatch), monkeypatch.context() as patch:
        card = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        nvml.uuids = [uuid.format(card=card) for uuid in nvml.uuids]
        patch.setitem(sys.modules, "pynvml", nvml)
        measured = measure_training(job)
    assert [peak.name for peak in measured.peaks] == PEAKS[:2]
    assert differences(measured) == {}
    assert why in measured.readings["notes"]["process_used_bytes"]
    assert any(why in note for note in measured.notes)


def test_the_second_card_is_read_where_it_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with virtual_card(monkeypatch, device_count=2), monkeypatch.context() as patch:
        asked: list[Any] = []
        properties = torch.cuda.get_device_properties
        patch.setattr(torch.cuda, "get_device_properties", lambda device: asked.append(device) or properties(device))
        torch.cuda.set_device(1)
        with measured() as run:
            torch.empty(1 << 20, dtype=torch.uint8, device="cuda:1")
        torch.cuda.set_device(0)
    assert run.measurement.peaks[0].measured_bytes == 1 << 20
    assert set(asked) == {1}


def test_records_of_a_card_are_appended(tiny_gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TrainingJob(model=tiny_gpt2, **TRAINED)
    path = tmp_path / "measured.jsonl"
    for card in ({}, {"capacity_bytes": 16 << 20}):
        append_measurement(path, measured_on_card(job, monkeypatch, card=card))
    good, full = read_records(path)
    assert good.id == full.id
    assert (good.status, full.status) == ("ok", "oom")
    assert good.gpu["compute_capability"] == [9, 0]
    assert good.readings["memory_stats"]["num_ooms"] == 0 < full.readings["memory_stats"]["num_ooms"]
    assert [mark["name"] for mark in good.readings["marks"]].count("after_step") == 3
