"""How long a training takes: FLOPs and bytes of a step, lower bounds on its time, and its time at an assumed MFU."""

from typing import Any

from vramcast.compute.accumulation import step_of
from vramcast.compute.any_implementation import ANY_IMPLEMENTATION, unavoidable
from vramcast.compute.flops import StepFlops, model_flops, step_flops
from vramcast.compute.options import TimeOptions
from vramcast.compute.published_runs import PublishedRuns, published_runs
from vramcast.compute.rates import job_peak
from vramcast.compute.roofline import EAGER_RUN, Roofline, roofline
from vramcast.compute.run_cost import RunCost, run_cost, seconds_at_mfu
from vramcast.errors import InputError
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.result import Result
from vramcast.timeline import OperatorTable


class AnyTraining(Result):
    """The same step however it is run: lower bounds from its matrix products and its attention alone."""

    lower_bound_of: str
    """What the bound holds for."""
    lower_bound_seconds_per_step: float
    """At 100 % of the data sheet; never above the bound of the code run eagerly."""
    highest_tokens_per_second: float | None = None
    """Speed at this bound; None where nothing of the step is certain (no product with a weight)."""
    lower_bound_run: RunCost | None = None
    """The whole training at this bound: at least so long, at least so much."""


class TrainingTime(Result):
    """One optimizer step on one GPU, and the whole training if its length was given."""

    gpu: str
    sequences_per_step: int
    tokens_per_step: int
    flops_per_step: StepFlops
    model_flops_per_step: int
    """Nothing computed twice: what MFU counts as useful. Causal attention in full."""
    bytes_moved_per_step: int
    """Between the GPU and its memory by this code run eagerly, at the least."""
    peak_dtype: str
    """Rate that MFU is measured against: that of the job's matrix products, such as bf16."""
    peak_flops_per_second: float
    lower_bound_of: str
    """What `lower_bound_seconds_per_step`, `highest_tokens_per_second`, `mfu_of_lower_bound`, `roofline` and `lower_bound_run` hold for:
    this code run eagerly. For any other way of running the same job see `any_implementation`."""
    lower_bound_seconds_per_step: float
    """At 100 % of the data sheet, operator after operator; a real step takes longer, see `published_runs`."""
    highest_tokens_per_second: float
    """Speed at the lower bound: at the most."""
    mfu_of_lower_bound: float
    """No higher MFU can be reached by this code run eagerly. Above 1 where kernels skip much of the attention that MFU counts in full
    (causal), or do it faster than the fp32 rate (on the tensor cores)."""
    roofline: Roofline
    any_implementation: AnyTraining
    """Bounds that compiled code, fused kernels and other engines cannot beat either."""
    published_runs: PublishedRuns
    """How far published runs stayed from the lower bound of the code run eagerly: experience, in no other figure here."""
    mfu: float | None = None
    """As asked, an assumption of the user: model FLOPs / (seconds x dense peak); recomputation is not counted as useful."""
    seconds_per_step: float | None = None
    """At that MFU."""
    tokens_per_second: float | None = None
    """At that MFU."""
    lower_bound_run: RunCost | None = None
    """The whole training at the lower bound of the code run eagerly: at least so long, at least so much."""
    run: RunCost | None = None
    """The whole training at the assumed MFU."""
    notes: tuple[str, ...] = ()

    @property
    def model_flops_per_sequence(self) -> float:
        """Forward and backward of one sequence."""
        return self.model_flops_per_step / self.sequences_per_step

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return self.model_dump(mode="json")


def training_time(table: OperatorTable, gpu: GPU, job: TrainingJob, options: TimeOptions | None = None) -> TrainingTime:
    """Time of one optimizer step and, with `options.steps` or `options.tokens`, of the whole training.

    Args:
        table: operators of one recorded optimizer step of `job` (`Recording.operators["step"]`).
        gpu: a card whose rates are known.
        job: with `sequence_length` set.
        options: MFU, amount of training, price; see `TimeOptions`.

    Raises:
        InputError: the GPU's rates are unknown, or a field of `job` or `options` is not usable; names it.
    """
    options = options or TimeOptions()
    options.check_together()
    step = step_of(table, job, options.sequences_per_step)
    useful = model_flops(step)
    if not useful:
        raise InputError("operators", len(table.operators), "no matrix product among them; record one optimizer step")
    peak = job_peak(gpu, job.precision, allow_tf32=options.allow_tf32)
    bound = roofline(step, gpu, allow_tf32=options.allow_tf32)
    at_mfu = None if options.mfu is None else seconds_at_mfu(useful, peak.flops_per_second, options.mfu)
    sequences = options.sequences_per_step or job.batch_size * job.gradient_accumulation_steps
    tokens = sequences * _sequence_length(job)
    anyhow = _any_implementation(step, gpu, tokens, options)
    peak_seconds = useful / peak.flops_per_second
    mfu_of_bound = peak_seconds / bound.lower_bound_seconds
    return TrainingTime(
        gpu=gpu.name,
        sequences_per_step=sequences,
        tokens_per_step=tokens,
        flops_per_step=step_flops(step),
        model_flops_per_step=useful,
        bytes_moved_per_step=bound.bytes_moved,
        peak_dtype=peak.name,
        peak_flops_per_second=peak.flops_per_second,
        lower_bound_of=EAGER_RUN,
        lower_bound_seconds_per_step=bound.lower_bound_seconds,
        highest_tokens_per_second=tokens / bound.lower_bound_seconds,
        mfu_of_lower_bound=mfu_of_bound,
        roofline=bound,
        any_implementation=anyhow,
        published_runs=published_runs("training"),
        mfu=options.mfu,
        seconds_per_step=at_mfu,
        tokens_per_second=None if at_mfu is None else tokens / at_mfu,
        lower_bound_run=_whole_run(bound.lower_bound_seconds, tokens, options, at_least=True),
        run=_whole_run(at_mfu, tokens, options, at_least=False),
        notes=_notes(peak_seconds, bound.lower_bound_seconds, anyhow.lower_bound_seconds_per_step, options, gpu),
    )


def _any_implementation(step: OperatorTable, gpu: GPU, tokens: int, options: TimeOptions) -> AnyTraining:
    seconds = roofline(unavoidable(step, tokens=tokens), gpu, allow_tf32=options.allow_tf32).lower_bound_seconds
    return AnyTraining(
        lower_bound_of=ANY_IMPLEMENTATION,
        lower_bound_seconds_per_step=seconds,
        highest_tokens_per_second=tokens / seconds if seconds else None,
        lower_bound_run=_whole_run(seconds, tokens, options, at_least=True),
    )


def _sequence_length(job: TrainingJob) -> int:
    if job.sequence_length is None:
        raise InputError("sequence_length", None, "give the tokens of each sequence")
    return job.sequence_length


def _whole_run(
    seconds_per_step: float | None, tokens_per_step: int, options: TimeOptions, *, at_least: bool
) -> RunCost | None:
    steps = options.steps if options.tokens is None else -(-options.tokens // tokens_per_step)
    if steps is None or seconds_per_step is None:
        return None
    return run_cost(
        steps=steps,
        tokens_per_step=tokens_per_step,
        seconds_per_step=seconds_per_step,
        at_least=at_least,
        price_per_gpu_hour=options.price_per_gpu_hour,
    )


def _notes(
    peak_seconds: float, eager_seconds: float, any_seconds: float, options: TimeOptions, gpu: GPU
) -> tuple[str, ...]:
    """Args: seconds of the useful FLOPs at the peak (an MFU of 1), and the two lower bounds."""
    notes = []
    if options.mfu is not None and peak_seconds < options.mfu * any_seconds:
        notes.append(
            f"an MFU of {options.mfu:g} is faster than any implementation of this job can be "
            f"(MFU {peak_seconds / any_seconds:.3g} at the most)"
        )
    elif options.mfu is not None and peak_seconds < options.mfu * eager_seconds:
        notes.append(
            f"an MFU of {options.mfu:g} is faster than the lower bound of this code run eagerly "
            f"(MFU {peak_seconds / eager_seconds:.3g}): only fused kernels could reach it"
        )
    if options.allow_tf32 and gpu.dense_tflops.tf32 is None:
        notes.append(f"{gpu.name} has no TF32: allowing it changes nothing")
    return tuple(notes)
