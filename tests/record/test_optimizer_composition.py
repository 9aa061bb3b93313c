"""A tape composed of a model's and an optimizer's is the trace of the whole job, for optimizers that do more than update in place."""

from __future__ import annotations

import pytest

from vramcast.forecast.answer import training_answer
from vramcast.job import TrainingJob


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ("adafactor", "fp32"),  # multiplies matrices, whose workspace the forward pass took already
        ("adafactor", "bf16"),
        ("adamw-loop", "amp-fp16"),  # a scaler's step
    ],
)
def test_an_optimizer_recorded_alone_is_the_one_of_the_job(tiny_gpt2: str, optimizer: str, precision: str) -> None:
    job = TrainingJob(
        model=tiny_gpt2, optimizer=optimizer, precision=precision, batch_size=3, sequence_length=40, max_grad_norm=1.0
    )
    tape, trace = (training_answer(job, trace=trace).forecast for trace in (False, True))
    assert (tape.engine, trace.engine) == ("tape", "trace")
    for name in (
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "peak_phase",
        "breakdown",
        "instants",
        "flops_per_step",
    ):
        assert getattr(tape, name) == getattr(trace, name)
