"""How long a generation takes at the least: the prefill, then decode steps that read weights and cache for every token."""

from collections.abc import Iterable, Mapping
from typing import Any

from vramcast.compute.any_implementation import ANY_IMPLEMENTATION, unavoidable
from vramcast.compute.published_runs import PublishedRuns, published_runs
from vramcast.compute.roofline import EAGER_RUN, Roofline, operator_bound, roofline
from vramcast.errors import InputError
from vramcast.hardware import GPU
from vramcast.job import GenerationJob
from vramcast.result import Result
from vramcast.timeline import Operator, OperatorTable

_OperatorKey = tuple[str, str, str, str]
_PREFILL, _FIRST_STEP, _LAST_STEP = "prefill", "first_decode_step", "last_decode_step"


class AnyGeneration(Result):
    """The same generation however it is run: lower bounds from matrix products and attention alone, one pass for every token."""

    lower_bound_of: str
    """What the bounds hold for."""
    prefill_lower_bound_seconds: float
    mean_decode_step_lower_bound_seconds: float | None = None
    """None where the prefill gives the only token."""
    lower_bound_seconds: float
    """Prefill and all decode steps; never above the bound of the code run eagerly."""
    highest_tokens_per_second: float | None = None
    """While decoding, over the whole batch."""
    highest_tokens_per_second_with_prefill: float | None = None
    """All new tokens of the batch over the whole time; None where nothing is certain (no product with a weight)."""


class GenerationTime(Result):
    """Lower bounds on the times of a generation on one GPU, and the speeds that they allow at the most."""

    gpu: str
    batch_size: int
    prompt_length: int
    new_tokens: int
    """For each sequence; the first comes from the prefill, each other from one decode step."""
    lower_bound_of: str
    """What every bound and speed but those of `any_implementation` holds for: this code run eagerly, with transformers' cache copied for
    every token. An engine does not copy it and can be faster."""
    prefill: Roofline
    first_decode_step: Roofline | None = None
    """None where the prefill gives the only token."""
    last_decode_step: Roofline | None = None
    mean_decode_step_lower_bound_seconds: float | None = None
    lower_bound_seconds: float
    """Prefill and all decode steps; a real generation takes longer, see `published_runs`."""
    highest_tokens_per_second_per_sequence: float | None = None
    """While decoding."""
    highest_tokens_per_second: float | None = None
    """While decoding, over the whole batch."""
    highest_tokens_per_second_with_prefill: float
    """All new tokens of the batch over the whole time."""
    any_implementation: AnyGeneration
    """Bounds that compiled code, fused kernels and serving engines cannot beat either."""
    published_runs: PublishedRuns
    """How far published runs stayed from the lower bound of the code run eagerly: experience, in no other figure here."""

    @property
    def decode_steps(self) -> int:
        """Forward passes after the prefill."""
        return self.new_tokens - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return self.model_dump(mode="json")


def decode_time(
    operators: Mapping[str, OperatorTable], gpu: GPU, job: GenerationJob, *, allow_tf32: bool = False
) -> GenerationTime:
    """Least times of a generation.

    Args:
        operators: `Recording.operators` of `job`: `prefill`, and `first_decode_step` and `last_decode_step` if more than one token is made.
        gpu: a card whose rates are known.
        job: what is generated.
        allow_tf32: fp32 matrix products may use TF32.

    Raises:
        InputError: the GPU's rates are unknown, or an interval is missing.
    """
    prefill = roofline(_interval(operators, _PREFILL), gpu, allow_tf32=allow_tf32)
    steps, decode, mean = job.max_new_tokens - 1, dict[str, Any](), 0.0
    if steps:
        first, last = _interval(operators, _FIRST_STEP), _interval(operators, _LAST_STEP)
        mean = mean_step_seconds(first, last, gpu, allow_tf32=allow_tf32)
        decode = {
            "first_decode_step": roofline(first, gpu, allow_tf32=allow_tf32),
            "last_decode_step": roofline(last, gpu, allow_tf32=allow_tf32),
            "mean_decode_step_lower_bound_seconds": mean,
            "highest_tokens_per_second_per_sequence": 1 / mean,
            "highest_tokens_per_second": job.batch_size / mean,
        }
    seconds = prefill.lower_bound_seconds + steps * mean
    return GenerationTime(
        gpu=gpu.name,
        batch_size=job.batch_size,
        prompt_length=job.prompt_length,
        new_tokens=job.max_new_tokens,
        lower_bound_of=EAGER_RUN,
        prefill=prefill,
        lower_bound_seconds=seconds,
        highest_tokens_per_second_with_prefill=job.batch_size * job.max_new_tokens / seconds,
        any_implementation=_any_implementation(operators, gpu, job, allow_tf32),
        published_runs=published_runs("generation"),
        **decode,
    )


def _any_implementation(
    operators: Mapping[str, OperatorTable], gpu: GPU, job: GenerationJob, allow_tf32: bool
) -> AnyGeneration:
    prompts = unavoidable(operators[_PREFILL], tokens=job.batch_size * job.prompt_length)
    prefill = roofline(prompts, gpu, allow_tf32=allow_tf32).lower_bound_seconds
    steps, mean = job.max_new_tokens - 1, 0.0
    if steps:
        first, last = (unavoidable(operators[name], tokens=job.batch_size) for name in (_FIRST_STEP, _LAST_STEP))
        mean = mean_step_seconds(first, last, gpu, allow_tf32=allow_tf32)
    seconds = prefill + steps * mean
    return AnyGeneration(
        lower_bound_of=ANY_IMPLEMENTATION,
        prefill_lower_bound_seconds=prefill,
        mean_decode_step_lower_bound_seconds=mean if steps else None,
        lower_bound_seconds=seconds,
        highest_tokens_per_second=job.batch_size / mean if mean else None,
        highest_tokens_per_second_with_prefill=job.batch_size * job.max_new_tokens / seconds if seconds else None,
    )


def mean_step_seconds(
    first: Iterable[Operator], last: Iterable[Operator], gpu: GPU, *, allow_tf32: bool = False
) -> float:
    """Lower bound on the mean time of the decode steps from `first` to `last`, whose FLOPs and bytes change linearly.

    Halfway between the two bounds where one limit, arithmetic or bandwidth, holds for an operator throughout. Where the limit changes
    on the way, the bound is a convex function of the step, so its value at the mean FLOPs and bytes is still below its mean.
    """
    beginning, end = _seconds_by_key(first, gpu, allow_tf32), _seconds_by_key(last, gpu, allow_tf32)
    mean = 0.0
    for key in beginning | end:
        compute, memory = (
            (at_first + at_last) / 2
            for at_first, at_last in zip(beginning.get(key, (0.0, 0.0)), end.get(key, (0.0, 0.0)), strict=True)
        )
        mean += max(compute, memory)
    return mean


def _seconds_by_key(
    operators: Iterable[Operator], gpu: GPU, allow_tf32: bool
) -> dict[_OperatorKey, tuple[float, float]]:
    """Compute and memory seconds of what has the same name in the same place: operators that grow have no other mark in common."""
    sums: dict[_OperatorKey, tuple[float, float]] = {}
    for operator in operators:
        key = (operator.name, operator.phase, operator.module, operator.dtype)
        compute, memory = sums.get(key, (0.0, 0.0))
        bound = operator_bound(operator, gpu, allow_tf32=allow_tf32)
        sums[key] = (
            compute + bound.compute_seconds * operator.calls,
            memory + bound.memory_seconds * operator.calls,
        )
    return sums


def _interval(operators: Mapping[str, OperatorTable], name: str) -> OperatorTable:
    if name not in operators or not operators[name].bytes_moved:
        known = ", ".join(operators) or "none"
        raise InputError(
            "operators", known, f"the recording has nothing in an interval {name!r}; record the generation of this job"
        )
    return operators[name]
