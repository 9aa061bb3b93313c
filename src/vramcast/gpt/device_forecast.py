"""The forecast of a training run, for the device that is there. The model's own code is not touched, nothing is allocated."""

from __future__ import annotations

from typing import Any, get_args

import torch

from vramcast.allocator import AllocatorConfig
from vramcast.errors import InputError, UnknownGPUError
from vramcast.forecast import Forecast
from vramcast.forecast.answer import DEFAULT_SEQUENCE_LENGTH, check_length, resolve_gpu, training_source
from vramcast.forecast.build import build_forecast
from vramcast.gpt.settings import TrainSettings
from vramcast.hardware import GPU, cuda_context_bytes, custom_gpu, find_gpu
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
from vramcast.plan.switches import Effect, Switch, offered_switches
from vramcast.progress import Progress

DEFAULT_BATCH_SIZE = 8


def training_job(settings: TrainSettings, config: ModelConfig) -> TrainingJob:
    """The memory job of a run: what one process does in one optimizer step.

    Raises:
        InputError: sequences are longer than the model's learned positions.
    """
    asked = settings.model_dump(include=set(TrainingJob.model_fields), exclude_none=True)
    length = settings.sequence_length or min(config.dimensions.context_length, DEFAULT_SEQUENCE_LENGTH)
    check_length(config, "--sequence-length", length)
    batch_size = settings.batch_size or config.fields.get("batch_size", DEFAULT_BATCH_SIZE)
    return TrainingJob(**asked | {"model": config.name, "batch_size": batch_size, "sequence_length": length})


def gpu_present() -> GPU | None:
    """The GPU of this process with the memory that is free on it now, None where there is none.

    Its row of the hardware file where it has one, else a custom card of its compute capability. The memory is what is free plus this
    process's own context, so that what other processes hold is not promised to the job.
    """
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    try:
        gpu = find_gpu(torch.cuda.get_device_name())
    except UnknownGPUError:
        gpu = custom_gpu(total, torch.cuda.get_device_capability())
    memory = min(gpu.memory_total_bytes, free + cuda_context_bytes(gpu).bytes)
    return gpu.model_copy(update={"memory_total_bytes": memory})


def forecast_card(settings: TrainSettings) -> GPU:
    """The card a forecast is made for where none is present.

    Raises:
        InputError: no such card.
    """
    return resolve_gpu(settings.gpu, settings.gpu_memory)


def forecast_job(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Forecast:
    """The forecast of a job whose configuration is at hand."""
    source = training_source(job, config, gpu, progress=progress)
    return build_forecast(
        source,
        gpu,
        workload="training",
        model=config.name,
        settings=job.model_dump(mode="json", exclude={"model", "gpu", "gpu_memory"}),
        allocator_config=AllocatorConfig(expandable_segments=job.expandable_segments),
        assumptions=config.assumptions,
        progress=progress,
    )


def flags_that_fit(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> str | None:
    """Switches with which the job fits, as written on the command line; None where no switch that saves anything is left.

    The first that is enough alone, those that leave the mathematics as it is before others; where none is, the one that saves most is
    thrown and the search goes on. Stops as soon as the job fits: every forecast of another kind of job may have to be recorded first.
    """
    thrown: dict[str, Any] = {}
    used = forecast_job(job, config, gpu, progress).device_used_bytes
    while True:
        saving: list[tuple[int, Switch]] = []
        for switch in sorted(offered_switches(job, gpu), key=lambda switch: get_args(Effect).index(switch.effect)):
            try:
                changed = forecast_job(switch.applied(job), config, gpu, progress)
            except InputError:  # this model cannot run so
                continue
            if changed.verdict == "fits":
                return switch.model_copy(update={"sets": thrown | switch.sets}).flags
            saving.append((changed.device_used_bytes, switch))
        best_used, best = min(saving, key=lambda found: found[0], default=(used, None))
        if best is None or best_used >= used:
            return None
        job, used, thrown = best.applied(job), best_used, thrown | best.sets
