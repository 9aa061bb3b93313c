"""Times of recorded jobs: FLOPs agree with torch's counter, and one model has one count however it is executed."""

from typing import Any

import pytest

from vramcast.compute import TimeOptions, TrainingTime, decode_time, training_time
from vramcast.forecast import engine
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.timeline import Recording

GPU = find_gpu("a100-80gb")
B, T = 3, 48
L, E, V = 2, 64, 1000
"""Of the `tiny_gpt2` fixture."""
FORWARD_FLOPS = B * (L * (24 * T * E * E + 4 * T * T * E) + 2 * T * E * V)


def recorded(model: str, **changes: Any) -> tuple[TrainingJob, Recording]:
    job = TrainingJob(**{"model": model, "batch_size": B, "sequence_length": T, "dropout": 0.0} | changes)
    return job, engine.record_training(job, load_model(model, offline=True), GPU, None)


def time_of(model: str, options: TimeOptions | None = None, **changes: Any) -> TrainingTime:
    job, recording = recorded(model, **changes)
    return training_time(recording.operators["step"], GPU, job, options)


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention": "eager"}, {"checkpointing": "full"}, {"precision": "amp-bf16"}],
    ids=lambda changes: "-".join(changes.values()) or "plain",
)
def test_model_flops_do_not_depend_on_how_the_model_is_executed(tiny_gpt2: str, changes: dict[str, str]) -> None:
    job, recording = recorded(tiny_gpt2, **changes)
    time = training_time(recording.operators["step"], GPU, job)
    assert time.flops_per_step.total == recording.flops_per_step
    assert time.flops_per_step.forward == FORWARD_FLOPS
    assert time.model_flops_per_step == 3 * FORWARD_FLOPS
    assert (time.flops_per_step.recompute > 0) == ("checkpointing" in changes)


@pytest.mark.parametrize("changes", [{}, {"precision": "amp-fp16", "max_grad_norm": 1.0}], ids=["plain", "clipped"])
def test_a_scaled_step_computes_what_a_recorded_one_does(tiny_gpt2: str, changes: dict[str, Any]) -> None:
    real = time_of(tiny_gpt2, gradient_accumulation_steps=4, **changes)
    for steps in (1, 2):
        options = TimeOptions(sequences_per_step=4 * B)
        scaled = time_of(tiny_gpt2, options, gradient_accumulation_steps=steps, **changes)
        assert scaled.flops_per_step == real.flops_per_step
        assert scaled.tokens_per_step == real.tokens_per_step
        assert 0.75 * real.bytes_moved_per_step <= scaled.bytes_moved_per_step <= real.bytes_moved_per_step
        assert scaled.lower_bound_seconds_per_step <= real.lower_bound_seconds_per_step * (1 + 1e-12)


def test_the_mean_decode_step_lies_halfway(tiny_llama: str) -> None:
    job = GenerationJob(model=tiny_llama, prompt_length=20, max_new_tokens=30, batch_size=2)
    recording = engine.record_generation(job, load_model(tiny_llama, offline=True), GPU, None)
    time = decode_time(recording.operators, GPU, job)
    assert time.first_decode_step is not None and time.last_decode_step is not None
    first, last = time.first_decode_step.lower_bound_seconds, time.last_decode_step.lower_bound_seconds
    assert first < last
    assert time.mean_decode_step_lower_bound_seconds == pytest.approx((first + last) / 2)
    weights = 2 * (recording.parameters - 1000 * 64)  # bf16; of the input embedding only rows are read
    assert time.first_decode_step.bytes_moved > weights
