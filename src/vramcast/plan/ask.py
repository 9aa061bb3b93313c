"""The questions as users ask them, by the name of a model and plain fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from vramcast.errors import InputError
from vramcast.forecast.answer import resolve_gpu, training_forecast
from vramcast.hardware import GPU, all_gpus, find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.checking import checked_job
from vramcast.models import load_model
from vramcast.plan.advice import Advice, advise
from vramcast.plan.fit import fit
from vramcast.plan.fit_matrix import FitMatrix
from vramcast.plan.prices import checked_prices
from vramcast.plan.sweep import Sweep, sweep
from vramcast.progress import Progress

Workload = Literal["training", "generation"]


def fit_model(
    model: str,
    *,
    workload: Workload = "training",
    on: Iterable[str] = (),
    prices: Mapping[str, float] | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> FitMatrix:
    """Where a job fits, how large it may be on each card, and which card to take.

    Args:
        model: a preset, a config.json or its folder, or a Hub id.
        workload: `training` or `generation`.
        on: names of cards; with the `gpu` among `fields`, if given, or every card of the hardware file where neither is.
        prices: US dollars per hour by name of card.
        offline: never ask the Hugging Face Hub.
        progress: told before every card.
        fields: those of `vramcast.job.TrainingJob`, or of `GenerationJob`.

    Raises:
        InputError: a field is unknown or its value not usable, or the job can run on none of the cards.
        MissingExtraError: torch is needed and not installed.
    """
    kinds: dict[str, type[TrainingJob | GenerationJob]] = {"training": TrainingJob, "generation": GenerationJob}
    if workload not in kinds:
        raise InputError("workload", workload, f"choose one of {' or '.join(kinds)}")
    job = checked_job(kinds[workload], {"model": model, **fields})
    cards = _cards(on, job)
    checked = checked_prices((prices or {}).items(), "prices")
    config = load_model(model, offline=offline, ignore_quantization=job.ignore_quantization)
    return fit(job, config, cards, prices=checked, progress=progress)


def sweep_model(
    model: str,
    *,
    batch_sizes: Sequence[int],
    sequence_lengths: Sequence[int],
    quick: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> Sweep:
    """Peaks of a training job over a grid; `fields` are those of `vramcast.job.TrainingJob` but the two sizes.

    Raises:
        InputError: a field is unknown or its value not usable, or a sequence is longer than the model takes.
        MissingExtraError: torch is needed and not installed.
    """
    for field, instead in (("batch_size", "batch_sizes"), ("sequence_length", "sequence_lengths")):
        if field in fields:
            raise InputError(field, fields[field], f"a sweep takes a list of them; write {instead}")
    job = checked_job(TrainingJob, {"model": model, **fields})
    config = load_model(model, offline=offline, ignore_quantization=job.ignore_quantization)
    gpu = resolve_gpu(job.gpu, job.gpu_memory)
    return sweep(job, config, gpu, batch_sizes, sequence_lengths, quick=quick, progress=progress)


def advise_model(model: str, *, offline: bool = False, progress: Progress | None = None, **fields: Any) -> Advice:
    """What each switch of a training job saves; `fields` and errors as for `vramcast.training`."""
    job = checked_job(TrainingJob, {"model": model, **fields})
    gpu = resolve_gpu(job.gpu, job.gpu_memory)
    return advise(job, gpu, lambda changed: training_forecast(changed, offline=offline), progress)


def _cards(on: Iterable[str], job: TrainingJob | GenerationJob) -> Sequence[GPU]:
    """Every card that was named, once; all of the hardware file where none was."""
    named = [find_gpu(name) for name in on]
    if job.model_fields_set & {"gpu", "gpu_memory"}:
        named.append(resolve_gpu(job.gpu, job.gpu_memory))
    return list({gpu.name: gpu for gpu in named}.values()) or all_gpus()
