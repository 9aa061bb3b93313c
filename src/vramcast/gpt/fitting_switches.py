"""Which switches make a job fit, as the user would write them. Needs no torch but through the forecasts it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from vramcast.errors import VramcastError
from vramcast.forecast import Forecast
from vramcast.gpt.settings import Distribution
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.plan.switches import Effect, Switch, offered_switches

_SHARDED = "--distributed fsdp"


def flags_that_fit(
    job: TrainingJob, gpu: GPU, used_by: Callable[[TrainingJob], int], fits: Callable[[TrainingJob], bool]
) -> str | None:
    """Switches with which the job fits, as written on the command line; None where no switch that saves anything is left.

    The first that is enough alone, those that leave the mathematics as it is before others; where none is, the one that saves most is
    thrown and the search goes on. Stops as soon as the job fits: every forecast of another kind of job may have to be recorded first.

    Args:
        job: what does not fit.
        gpu: the card.
        used_by: bytes of the device that a job takes; the next switch is chosen by them.
        fits: whether a job fits, asked after `used_by` of the same job.
    """
    thrown: dict[str, Any] = {}
    used = used_by(job)
    while True:
        saving: list[tuple[int, Switch]] = []
        for switch in sorted(offered_switches(job, gpu), key=lambda switch: get_args(Effect).index(switch.effect)):
            changed = switch.applied(job)
            try:
                saving.append((used_by(changed), switch))
                if fits(changed):
                    return switch.model_copy(update={"sets": thrown | switch.sets}).flags
            except VramcastError:  # this model cannot run so
                continue
        best_used, best = min(saving, key=lambda found: found[0], default=(used, None))
        if best is None or best_used >= used:
            return None
        job, used, thrown = best.applied(job), best_used, thrown | best.sets


def flags_that_fit_spread(
    job: TrainingJob,
    gpu: GPU,
    how: Distribution,
    rehearsed: Callable[[TrainingJob, Distribution], Forecast],
    alone: Callable[[TrainingJob], Forecast],
) -> str | None:
    """The same for one of several processes. What ddp holds whole fsdp spreads, so that is tried before any other switch.

    A rehearsal takes seconds while the other processes wait, a tape milliseconds. So the next switch is chosen by what one process alone
    would save; what is named has been rehearsed.
    """
    try:
        sharded = rehearsed(job, "fsdp")
    except VramcastError:  # this precision cannot be sharded
        return None if how == "fsdp" else _spread_so(job, gpu, "ddp", rehearsed, alone)
    if how == "ddp" and sharded.verdict == "fits":
        return _SHARDED
    more = _spread_so(job, gpu, "fsdp", rehearsed, alone)
    return more if more is None or how == "fsdp" else f"{_SHARDED} {more}"


def _spread_so(
    job: TrainingJob,
    gpu: GPU,
    how: Distribution,
    rehearsed: Callable[[TrainingJob, Distribution], Forecast],
    alone: Callable[[TrainingJob], Forecast],
) -> str | None:
    # A switch saves no more of a share than of the whole, so what is hopeless by this figure is hopeless.
    saved = min(0, rehearsed(job, how).device_used_bytes - alone(job).device_used_bytes)

    def at_least(changed: TrainingJob) -> int:
        return alone(changed).device_used_bytes + saved

    def fits(changed: TrainingJob) -> bool:
        return at_least(changed) <= gpu.cuda_total_bytes and rehearsed(changed, how).verdict == "fits"

    return flags_that_fit(job, gpu, at_least, fits)
