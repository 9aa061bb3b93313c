"""The path of a question: job -> model and GPU -> tape or recording -> forecast."""

from typing import Literal, NamedTuple

from vramcast.allocator import AllocatorConfig
from vramcast.errors import InputError
from vramcast.forecast import engine
from vramcast.forecast.build import Built, build_forecast
from vramcast.forecast.forecast import Forecast
from vramcast.forecast.generation_tapes import bound_generation
from vramcast.forecast.job_room import room_for
from vramcast.forecast.readings import Readings
from vramcast.forecast.source import RecordedSource, Source, TapeSource, about_attention
from vramcast.forecast.training_tapes import NoTape, bound_training
from vramcast.hardware import GPU, custom_gpu, find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.script import ScriptOptions
from vramcast.models import ModelConfig, load_model
from vramcast.progress import Progress
from vramcast.units import parse_bytes

DEFAULT_SEQUENCE_LENGTH = 1024
NOT_SETTINGS = {"model", "gpu", "gpu_memory"}
"""Fields that are no settings of a job."""


class TrainingAnswer(NamedTuple):
    """The forecast of a training job, and what else can be read off the same replay."""

    forecast: Forecast
    readings: Readings
    source: Source
    job: TrainingJob
    """With its sequence length filled in."""
    gpu: GPU


class GenerationAnswer(NamedTuple):
    """The forecast of a generation job, and what else can be read off the same replay."""

    forecast: Forecast
    source: Source
    gpu: GPU


def training_forecast(
    job: TrainingJob, *, offline: bool = False, trace: bool = False, progress: Progress | None = None
) -> Forecast:
    """How much memory a training job takes.

    Args:
        job: what is asked.
        offline: never ask the Hugging Face Hub.
        trace: run the model's own code at full size instead of replaying its tape; the answer is the same.
        progress: told what is done, for a job that has to be recorded first.

    Raises:
        InputError: the model, the GPU or a field of the job is not usable.
        MissingExtraError: this question needs torch, which is not installed.
    """
    return training_answer(job, offline=offline, trace=trace, progress=progress).forecast


def training_answer(
    job: TrainingJob, *, offline: bool = False, trace: bool = False, progress: Progress | None = None
) -> TrainingAnswer:
    """The forecast of a training job together with its source; arguments and errors as for `training_forecast`."""
    job, config, gpu = checked_training(job, offline)
    source = training_source(job, config, gpu, trace=trace, progress=progress)
    return TrainingAnswer(*built_from(source, job, "training", config, gpu, progress), source, job, gpu)


def checked_training(job: TrainingJob, offline: bool = False) -> tuple[TrainingJob, ModelConfig, GPU]:
    """The job with its sequence length filled in, its model and its GPU; errors as for `training_forecast`."""
    config, gpu = _model_of(job, offline), resolve_gpu(job.gpu, job.gpu_memory)
    sequence_length = job.sequence_length or min(config.dimensions.context_length, DEFAULT_SEQUENCE_LENGTH)
    check_length(config, "sequence_length", sequence_length)
    return job.model_copy(update={"sequence_length": sequence_length}), config, gpu


def training_source(
    job: TrainingJob, config: ModelConfig, gpu: GPU, *, trace: bool = False, progress: Progress | None = None
) -> Source:
    """The tape of a job with its numbers put in, or its recording where it has no tape; the job must be a checked one.

    Raises:
        MissingExtraError: torch is needed and not installed.
    """
    if trace:
        return RecordedSource(engine.record_training(job, config, gpu, progress))
    try:
        return TapeSource(bound_training(job, config, gpu, progress), gpu)
    except NoTape as reason:
        recording = engine.record_training(job, config, gpu, progress)
        recording.assumptions.append(f"traced at full size, for this job has no tape: {reason}")
        return RecordedSource(recording)


def generation_source(
    job: GenerationJob, config: ModelConfig, gpu: GPU, *, trace: bool = False, progress: Progress | None = None
) -> Source:
    """The tape of a job with its numbers put in, or its recording where it has no tape; the job must be a checked one.

    Raises:
        MissingExtraError: torch is needed and not installed.
    """
    if trace:
        return RecordedSource(engine.record_generation(job, config, gpu, progress))
    try:
        bound = bound_generation(job, config, gpu, progress)
    except NoTape as reason:
        recording = engine.record_generation(job, config, gpu, progress)
        recording.assumptions.append(f"traced at full size, for this job has no tape: {reason}")
        return RecordedSource(recording)
    recording = bound.recording()
    recording.assumptions += about_attention(bound.tape.attention, bound.last_values, gpu)
    return RecordedSource(recording, "tape")


def generation_forecast(
    job: GenerationJob, *, offline: bool = False, trace: bool = False, progress: Progress | None = None
) -> Forecast:
    """How much memory a generation job takes; arguments and errors as for `training_forecast`."""
    return generation_answer(job, offline=offline, trace=trace, progress=progress).forecast


def generation_answer(
    job: GenerationJob, *, offline: bool = False, trace: bool = False, progress: Progress | None = None
) -> GenerationAnswer:
    """The forecast of a generation job together with its source; errors as for `training_forecast`."""
    config, gpu = checked_generation(job, offline)
    source = generation_source(job, config, gpu, trace=trace, progress=progress)
    return GenerationAnswer(built_from(source, job, "generation", config, gpu, progress).forecast, source, gpu)


def checked_generation(job: GenerationJob, offline: bool = False) -> tuple[ModelConfig, GPU]:
    """The model and the GPU of a job that can be run; errors as for `training_forecast`."""
    config, gpu = _model_of(job, offline), resolve_gpu(job.gpu, job.gpu_memory)
    check_length(config, "prompt_length + max_new_tokens", job.prompt_length + job.max_new_tokens)
    return config, gpu


def _model_of(job: TrainingJob | GenerationJob, offline: bool) -> ModelConfig:
    return load_model(job.model, offline=offline, ignore_quantization=job.ignore_quantization)


def built_from(
    source: Source,
    job: TrainingJob | GenerationJob,
    workload: Literal["training", "generation"],
    config: ModelConfig,
    gpu: GPU,
    progress: Progress | None = None,
    *,
    world_size: int = 1,
) -> Built:
    """The forecast that a source gives on a card at hand, and its replay; as one of several where the source is one process of them.

    The job must be a checked one; its own `gpu` is not looked at.
    """
    return build_forecast(
        source,
        room_for(job, config, gpu, world_size),
        workload=workload,
        model=config.name,
        settings=job.model_dump(mode="json", exclude=NOT_SETTINGS),
        allocator_config=AllocatorConfig(expandable_segments=job.expandable_segments),
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


def gpu_of_script(options: ScriptOptions) -> GPU:
    """The GPU that a script is to find, with the memory that was asked for; errors as for `resolve_gpu`."""
    gpu = resolve_gpu(options.gpu, options.gpu_memory)
    return gpu if options.capacity is None else gpu.with_memory(parse_bytes(options.capacity, "capacity"))


def check_length(config: ModelConfig, field: str, length: int) -> None:
    """Learned position tables end at the context length; longer sequences would index past them."""
    context = config.dimensions.context_length
    if length > context and config.has_learned_positions:
        raise InputError(
            field, length, f"{config.name} has learned positions up to its context length {context}; use at most that"
        )
