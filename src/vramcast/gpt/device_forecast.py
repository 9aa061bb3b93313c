"""The forecast of a training run of one process. The model's own code is not touched, nothing is allocated. Needs no torch."""

from __future__ import annotations

from vramcast.forecast import Forecast
from vramcast.forecast.answer import (
    DEFAULT_SEQUENCE_LENGTH,
    built_from,
    check_length,
    resolve_gpu,
    training_source,
)
from vramcast.gpt.settings import GenerateSettings, TrainSettings
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
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


def forecast_card(settings: TrainSettings | GenerateSettings) -> GPU:
    """The card a forecast is made for where none is present.

    Raises:
        InputError: no such card.
    """
    return resolve_gpu(settings.gpu, settings.gpu_memory)


def forecast_job(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Forecast:
    """The forecast of a job whose configuration is at hand."""
    source = training_source(job, config, gpu, progress=progress)
    return built_from(source, job, "training", config, gpu, progress).forecast
