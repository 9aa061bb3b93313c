"""A card for the CUDA branches of `vramcast measure`: `torch.cuda` is answered by the simulation, NVML by a fake."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from fake_nvml import FollowedNVML

from vramcast.forecast.answer import checked_generation, checked_training, generation_source, training_source
from vramcast.hardware import find_gpu
from vramcast.job import TrainingJob
from vramcast.measure import Measurement, generation, measure_generation, measure_training, training
from vramcast.measure.storage_watch import StorageWatch
from vramcast.virtual_cuda import VirtualGPU

CARD = "h200"
PEAKS = ["peak_allocated_bytes", "peak_reserved_bytes", "device_used_bytes"]


@contextmanager
def virtual_card(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[VirtualGPU]:
    """An H200 whose process takes what its allocator holds and its context."""
    with VirtualGPU(find_gpu(CARD), **settings) as machine:

        def is_here(watch: StorageWatch, tensor: torch.Tensor) -> bool:
            """The watch asks below the mode that answers for the device; a virtual tensor says `meta` there."""
            device = machine.storages.device_of(tensor)
            return device is not None and device >= 0

        def used() -> int:
            return torch.cuda.memory_reserved() + machine.context_bytes()

        uuid = str(torch.cuda.get_device_properties(0).uuid)
        with monkeypatch.context() as patch:
            patch.setattr(StorageWatch, "is_here", is_here)
            patch.setitem(sys.modules, "pynvml", FollowedNVML(uuid, os.getpid(), used))
            yield machine


@contextmanager
def forecast_beforehand(job: Any, monkeypatch: pytest.MonkeyPatch, *, trace: bool = False) -> Iterator[None]:
    """What a job is forecast from on the card, made now: nothing can be recorded while a virtual GPU is on."""
    job = job.model_copy(update={"gpu": CARD})
    if isinstance(job, TrainingJob):
        source: Any = training_source(*checked_training(job), trace=trace)
        place: Any = training, "training_source"
    else:
        source = generation_source(job, *checked_generation(job), trace=trace)
        place = generation, "generation_source"
    with monkeypatch.context() as patch:
        patch.setattr(*place, lambda *args, **kwargs: source)
        yield


def measured_on_card(
    job: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    trace: bool = False,
    card: dict[str, Any] | None = None,
    **settings: Any,
) -> Measurement:
    """A job measured on the card."""
    measure: Any = measure_training if isinstance(job, TrainingJob) else measure_generation
    with forecast_beforehand(job, monkeypatch, trace=trace), virtual_card(monkeypatch, **card or {}):
        measurement: Measurement = measure(job, **settings)
    return measurement


def differences(measured: Measurement) -> dict[str, int]:
    """Measured less forecast bytes, where they differ."""
    rows = (*measured.peaks, *measured.instants, *measured.categories)
    assert all(row.forecast_bytes is not None and row.measured_bytes is not None for row in rows)
    return {
        row.name: row.measured_bytes - row.forecast_bytes for row in rows if row.measured_bytes != row.forecast_bytes
    }
