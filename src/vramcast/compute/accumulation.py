"""The operators of an optimizer step of any number of micro batches, from a recorded step of a few."""

from dataclasses import replace

from vramcast.errors import InputError
from vramcast.job import TrainingJob
from vramcast.timeline import Operator, OperatorTable


def step_of(table: OperatorTable, job: TrainingJob, sequences_per_step: int | None) -> OperatorTable:
    """The recorded step, with forward and backward as often as `sequences_per_step` takes micro batches of the job's `batch_size`.

    Never more than the real step computes: an operator that ran in some micro batches only (the sums of gradients, from the second on) is
    repeated in that proportion, rounded down.

    Raises:
        InputError: `sequences_per_step` is no multiple of `batch_size`.
    """
    recorded = job.gradient_accumulation_steps
    if sequences_per_step is None or sequences_per_step == job.batch_size * recorded:
        return table
    micro_batches, rest = divmod(sequences_per_step, job.batch_size)
    if rest:
        raise InputError(
            "sequences_per_step",
            sequences_per_step,
            f"must be a multiple of batch_size={job.batch_size}, the sequences of one micro batch",
        )
    calls = {
        operator: operator.calls * micro_batches // recorded if _in_every_micro_batch(operator, job) else operator.calls
        for operator in table
    }
    return OperatorTable(tuple(replace(operator, calls=count) for operator, count in calls.items() if count))


def _in_every_micro_batch(operator: Operator, job: TrainingJob) -> bool:
    """Unscaling and clipping come once a step, between backward and the optimizer: outside of any module, without a matrix product."""
    once_between = job.max_grad_norm is not None or job.precision == "amp-fp16"
    if operator.phase == "forward" and once_between:
        return bool(operator.module or operator.flops)
    return operator.phase in ("forward", "backward", "recompute")
