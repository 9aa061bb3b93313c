"""A placement is the verdict of a forecast."""

import pytest
from plan_fakes import FakePeaks

import vramcast
from vramcast.forecast.peaks import peak_source
from vramcast.hardware import cuda_context_bytes, custom_gpu, find_gpu
from vramcast.job import TrainingJob
from vramcast.models import load_model
from vramcast.plan.room import Room, room_of
from vramcast.units import MIB

ROOM = Room(gpu_memory_bytes=1200, context_bytes=200, context_uncertainty_bytes=50)


@pytest.mark.parametrize(
    ("live", "needed", "reserved", "verdict", "shown"),
    [
        (100, 100, 950, "fits", 950),
        (100, 100, 951, "tight", 951),
        (100, 100, 1000, "tight", 1000),
        (100, 1000, 1001, "tight", 1000),
        (100, 1001, 1001, "does_not_fit", 1001),
        (1001, 1001, 2000, "does_not_fit", 2000),
    ],
)
def test_verdicts(live: int, needed: int, reserved: int, verdict: str, shown: int) -> None:
    source = FakePeaks(lambda *_: live, lambda *_: needed, lambda *_: reserved)
    placement = ROOM.place(source, 1, 1)
    assert (placement.verdict, placement.peaks.reserved_bytes) == (verdict, shown)
    assert len(source.peaks_calls) == (1 if reserved <= 1000 or live > 1000 else 2)


def test_room_is_what_the_context_leaves() -> None:
    gpu = find_gpu("rtx-3090")
    assert room_of(gpu).capacity_bytes == gpu.memory_total_bytes - cuda_context_bytes(gpu).bytes


@pytest.mark.parametrize("mib", [530, 560, 580, 620, 700, 720, 800])
def test_same_verdict_as_the_forecast_of_a_real_model(tiny_gpt2: str, mib: int) -> None:
    fields = {"batch_size": 2, "sequence_length": 64, "gpu": "custom", "gpu_memory": f"{mib}MiB"}
    forecast = vramcast.training(tiny_gpt2, **fields)
    gpu = custom_gpu(mib * MIB)
    source = peak_source(TrainingJob(model=tiny_gpt2, **fields), load_model(tiny_gpt2), gpu)
    verdict, peaks = room_of(gpu).place(source, 2, 64)
    assert (verdict, peaks.reserved_bytes) == (forecast.verdict, forecast.peak_reserved_bytes)
    assert source.live_bytes(2, 64) <= peaks.allocated_bytes == forecast.peak_allocated_bytes
