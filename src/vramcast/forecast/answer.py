"""The path of a question: job -> model and GPU -> recording -> forecast."""

from typing import Literal

from vramcast.allocator import AllocatorConfig
from vramcast.errors import InputError
from vramcast.forecast import engine
from vramcast.forecast.build import build_forecast
from vramcast.forecast.forecast import Forecast
from vramcast.hardware import GPU, custom_gpu, find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig, load_model
from vramcast.progress import Progress
from vramcast.timeline import Recording
from vramcast.units import parse_bytes

DEFAULT_SEQUENCE_LENGTH = 1024


def training_forecast(job: TrainingJob, *, offline: bool = False, progress: Progress | None = None) -> Forecast:
    """How much memory a training job takes.

    Raises:
        InputError: the model, the GPU or a field of the job is not usable.
        MissingExtraError: this question needs torch, which is not installed.
    """
    config, gpu = load_model(job.model, offline=offline), resolve_gpu(job.gpu, job.gpu_memory)
    sequence_length = job.sequence_length or min(config.dimensions.context_length, DEFAULT_SEQUENCE_LENGTH)
    _check_length(config, "sequence_length", sequence_length)
    job = job.model_copy(update={"sequence_length": sequence_length})
    recording = engine.record_training(job, config, gpu, progress)
    return _forecast(recording, job, "training", config, gpu, progress)


def generation_forecast(job: GenerationJob, *, offline: bool = False, progress: Progress | None = None) -> Forecast:
    """How much memory a generation job takes; errors as for `training_forecast`."""
    config, gpu = load_model(job.model, offline=offline), resolve_gpu(job.gpu, job.gpu_memory)
    _check_length(config, "prompt_length + max_new_tokens", job.prompt_length + job.max_new_tokens)
    recording = engine.record_generation(job, config, gpu, progress)
    return _forecast(recording, job, "generation", config, gpu, progress)


def _forecast(
    recording: Recording,
    job: TrainingJob | GenerationJob,
    workload: Literal["training", "generation"],
    config: ModelConfig,
    gpu: GPU,
    progress: Progress | None,
) -> Forecast:
    return build_forecast(
        recording,
        gpu,
        workload=workload,
        model=config.name,
        settings=job.model_dump(mode="json", exclude={"model", "gpu", "gpu_memory"}),
        allocator_config=AllocatorConfig(expandable_segments=job.expandable_segments),
        engine="trace",
        assumptions=config.assumptions,
        progress=progress,
    )


def resolve_gpu(name: str, memory: str | None) -> GPU:
    """The row of the hardware file, or a custom GPU of the given memory.

    Raises:
        InputError: `custom` without a memory size, or a memory size for a card that has its own.
    """
    if name == "custom":
        if memory is None:
            raise InputError("gpu", name, "give its memory too, such as --gpu custom --gpu-memory 24GiB")
        return custom_gpu(parse_bytes(memory, "gpu_memory"))
    gpu = find_gpu(name)
    if memory is not None:
        raise InputError("gpu_memory", memory, f"{gpu.name} has its own memory; use --gpu custom to set another")
    return gpu


def _check_length(config: ModelConfig, field: str, length: int) -> None:
    """Learned position tables end at the context length; longer sequences would index past them."""
    context = config.dimensions.context_length
    if length > context and config.has_learned_positions:
        raise InputError(
            field, length, f"{config.name} has learned positions up to its context length {context}; use at most that"
        )
