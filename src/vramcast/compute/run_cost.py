"""From FLOPs to seconds at a stated utilization, and from seconds to GPU-hours, days and money."""

from vramcast.errors import InputError
from vramcast.result import Result

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400


class RunCost(Result):
    """A whole training on one GPU: at the least where it is made from a lower bound, else at the MFU that the user assumes."""

    steps: int
    tokens: int
    """Of all steps, so never fewer than were asked for."""
    at_least: bool
    """True: made from a lower bound, so that seconds, gpu_hours, days and cost are lower bounds too. False: at the assumed MFU."""
    seconds: float
    gpu_hours: float
    days: float
    cost: float | None = None
    """In the currency of the price; None without a price. With `at_least` no estimate: published runs cost more, see `published_runs`."""


def seconds_at_mfu(model_flops: int, peak_flops_per_second: float, mfu: float) -> float:
    """Seconds that `model_flops` take at a model FLOPs utilization.

    Formula: model_flops / (mfu * peak). Recomputation is no useful work and not in `model_flops`.

    Source: https://arxiv.org/abs/2204.02311, appendix B

    Raises:
        InputError: mfu is not above 0 and at most 1, or the peak not above 0.
    """
    if not 0 < mfu <= 1:
        raise InputError("mfu", mfu, "must be above 0 and at most 1, such as 0.4")
    if not peak_flops_per_second > 0:
        raise InputError("peak_flops_per_second", peak_flops_per_second, "must be above 0")
    return model_flops / (mfu * peak_flops_per_second)


def run_cost(
    *,
    steps: int,
    tokens_per_step: int,
    seconds_per_step: float,
    at_least: bool,
    price_per_gpu_hour: float | None = None,
) -> RunCost:
    """Time and cost of `steps` optimizer steps on one GPU.

    Args:
        steps: optimizer steps.
        tokens_per_step: of all sequences of a step.
        seconds_per_step: a lower bound, or the time at an assumed MFU.
        at_least: it is a lower bound, and so is all that follows from it.
        price_per_gpu_hour: in any currency.
    """
    seconds = steps * seconds_per_step
    gpu_hours = seconds / SECONDS_PER_HOUR
    return RunCost(
        steps=steps,
        tokens=steps * tokens_per_step,
        at_least=at_least,
        seconds=seconds,
        gpu_hours=gpu_hours,
        days=seconds / SECONDS_PER_DAY,
        cost=None if price_per_gpu_hour is None else gpu_hours * price_per_gpu_hour,
    )
