"""Sources and forecasts whose figures a test controls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vramcast.forecast import Forecast
from vramcast.forecast.peaks import Peaks
from vramcast.models import ModelConfig, model_from_fields
from vramcast.units import GIB, MIB

TINY = {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 1024, "vocab_size": 1000}


def tiny_config(**changes: Any) -> ModelConfig:
    return model_from_fields({**TINY, **changes}, name="tiny", source="file", origin="a test")


@dataclass
class FakePeaks:
    """A job that reserves `reserved` with room and runs in `needed` by giving memory back; counts what it is asked."""

    live: Callable[[int, int], int]
    needed: Callable[[int, int], int]
    reserved: Callable[[int, int], int]
    live_calls: int = 0
    peaks_calls: list[tuple[int, int, int | None]] = field(default_factory=list)

    def live_bytes(self, batch_size: int, length: int) -> int:
        self.live_calls += 1
        return self.live(batch_size, length)

    def peaks(self, batch_size: int, length: int, capacity_bytes: int | None = None) -> Peaks:
        self.peaks_calls.append((batch_size, length, capacity_bytes))
        live, reserved = self.live(batch_size, length), self.reserved(batch_size, length)
        if capacity_bytes is None or reserved <= capacity_bytes:
            return Peaks(live, reserved)
        if self.needed(batch_size, length) <= capacity_bytes:
            return Peaks(live, capacity_bytes, num_alloc_retries=2)
        return Peaks(live, capacity_bytes, out_of_memory=True, num_alloc_retries=1)

    def runs(self, batch_size: int, length: int, capacity_bytes: int) -> bool:
        """By definition, without counting."""
        return self.needed(batch_size, length) <= capacity_bytes


def affine(static: int, per_token: int, fragmentation: float = 0.0) -> FakePeaks:
    """`static + per_token * tokens` live; reserved is that and a share more, in segments of 2 MiB; giving back saves nothing."""

    def live(batch_size: int, length: int) -> int:
        return static + batch_size * length * per_token

    def reserved(batch_size: int, length: int) -> int:
        return -(-int(live(batch_size, length) * (1 + fragmentation)) // (2 * MIB)) * 2 * MIB

    return FakePeaks(live, reserved, reserved)


def a_forecast(**changes: Any) -> Forecast:
    fields: dict[str, Any] = {
        "workload": "training",
        "model": "tiny",
        "parameters": 1,
        "peak_allocated_bytes": GIB,
        "peak_reserved_bytes": GIB,
        "device_used_bytes": 2 * GIB,
        "reserved_bytes_low": GIB,
        "reserved_bytes_high": GIB,
        "device_used_bytes_low": 2 * GIB,
        "device_used_bytes_high": 2 * GIB,
        "uncertainty": (),
        "peak_phase": "backward",
        "breakdown": (),
        "instants": (),
        "flops_per_step": 100,
        "engine": "trace",
        "gpu": "rtx-3090",
        "gpu_memory_bytes": 24 * GIB,
        "verdict": "fits",
        "context_bytes": GIB,
        "context_uncertainty_bytes": 1,
    }
    return Forecast(**{**fields, **changes})
