"""The forecast of a generation, told before the model is loaded; what does not fit the GPU present ends here."""

from __future__ import annotations

from collections.abc import Iterator

from vramcast.forecast import Forecast
from vramcast.forecast.answer import built_from, generation_source
from vramcast.forecast.generation_tapes import generation_tape_is_at_hand
from vramcast.gpt.device_forecast import forecast_card
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.report import ForecastReport
from vramcast.gpt.settings import GenerateSettings
from vramcast.hardware import GPU
from vramcast.job import GenerationJob
from vramcast.measure.device import gpu_present
from vramcast.models import ModelConfig
from vramcast.plan.switches import has_bf16
from vramcast.progress import Progress


def forecast_generation(
    settings: GenerateSettings, config: ModelConfig, prompt_length: int, report: ForecastReport
) -> Forecast | None:
    """What the generation takes at most, of greedy decoding; None where none was asked for, or none is made, which is told.

    Raises:
        InputError: no such card.
        DoesNotFitError: the GPU is present, it does not fit and `settings.force` is not set.
    """
    present = gpu_present()
    if settings.forecast is False or (settings.forecast is None and present is None):
        return None
    if not settings.kv_cache:
        report.note("no forecast: generation without a key-value cache is not forecast")
        return None
    gpu = present or forecast_card(settings)
    jobs = list(generation_jobs(settings, config, prompt_length))
    if settings.forecast is None and not all(generation_tape_is_at_hand(job, config, gpu) for job in jobs):
        report.note("no forecast: this kind of model would have to be recorded first; --forecast does so, once")
        return None
    forecast = _largest(jobs, config, gpu, report.working)
    report.forecast(forecast, gpu_is_present=present is not None)
    if present is not None and forecast.verdict == "does_not_fit" and not settings.force:
        raise DoesNotFitError(forecast, _flags_that_fit(jobs, config, gpu, report.working), doing="generates")
    return forecast


def windows(prompt_length: int, max_new_tokens: int, context: int) -> Iterator[tuple[int, int]]:
    """Tokens read and tokens generated, one pair after another: where the context is full, its younger half is read again as a prompt."""
    tokens, end = prompt_length, prompt_length + max_new_tokens
    while tokens < end:
        read = tokens if tokens < context else max(1, context // 2)
        new = min(end - tokens, max(1, context - read))  # the last one is never read
        yield read, new
        tokens += new


def generation_jobs(settings: GenerateSettings, config: ModelConfig, prompt_length: int) -> Iterator[GenerationJob]:
    """The memory jobs of a generation, equal ones once."""
    pairs = windows(prompt_length, settings.max_new_tokens, config.dimensions.context_length)
    for read, new in dict.fromkeys(pairs):
        yield GenerationJob(model=config.name, prompt_length=read, max_new_tokens=new, precision=settings.precision)


def _largest(jobs: list[GenerationJob], config: ModelConfig, gpu: GPU, progress: Progress | None) -> Forecast:
    found = [
        built_from(
            generation_source(job, config, gpu, progress=progress), job, "generation", config, gpu, progress
        ).forecast
        for job in jobs
    ]
    return max(found, key=lambda forecast: forecast.device_used_bytes)


def _flags_that_fit(jobs: list[GenerationJob], config: ModelConfig, gpu: GPU, progress: Progress) -> str | None:
    """Half precision, where that is enough."""
    half = "bf16" if has_bf16(gpu) else "fp16"
    if jobs[0].precision != "fp32":
        return None
    halved = [job.model_copy(update={"precision": half}) for job in jobs]
    return f"--precision {half}" if _largest(halved, config, gpu, progress).verdict == "fits" else None
