"""Forecasts written by hand, so that the textbook can be tested without a model."""

from typing import Any

from vramcast.forecast import BreakdownItem, Forecast, Instant
from vramcast.job import GenerationJob, TrainingJob

PARAMETERS, STATES, GRADIENTS, ACTIVATIONS, TEMPORARY = 400, 800, 390, 5000, 300


def a_forecast(job: TrainingJob | GenerationJob, **changes: Any) -> Forecast:
    """A training forecast with its peak in backward, or a generation forecast with its peak in decode."""
    training = isinstance(job, TrainingJob)
    categories = {"parameters": PARAMETERS, "temporary": TEMPORARY, "workspace": 8, "inputs": 2}
    categories |= {"optimizer_states": STATES, "activations": ACTIVATIONS} if training else {"kv_cache": 60}
    peak = sum(categories.values())
    static = PARAMETERS + STATES
    instants = {
        "after_load": PARAMETERS,
        "after_forward": static + ACTIVATIONS,
        "backward_peak": peak,
        "after_backward": static + GRADIENTS,
        "after_step": static,
    }
    fields: dict[str, Any] = {
        "workload": "training" if training else "generation",
        "model": job.model,
        "parameters": 100,
        "peak_allocated_bytes": peak,
        "peak_reserved_bytes": peak + 1000,
        "device_used_bytes": peak + 3000,
        "reserved_bytes_low": peak + 1000,
        "reserved_bytes_high": peak + 1000,
        "device_used_bytes_low": peak + 3000,
        "device_used_bytes_high": peak + 3000,
        "uncertainty": (),
        "peak_phase": "backward" if training else "decode",
        "breakdown": tuple(BreakdownItem(category=name, bytes=size) for name, size in categories.items()),
        "instants": tuple(Instant(name=name, allocated_bytes=size) for name, size in instants.items() if training),
        "flops_per_step": 3_000_000,
        "engine": "trace",
        "gpu": job.gpu,
        "gpu_memory_bytes": 100_000,
        "verdict": "fits",
        "context_bytes": 2000,
        "context_uncertainty_bytes": 1,
        "settings": job.model_dump(mode="json"),
    }
    return Forecast(**{**fields, **changes})
