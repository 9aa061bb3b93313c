"""One of several processes, rehearsed on the virtual GPU: the very model, wrappers, checkpoint and steps of a run, nothing allocated.

A tape knows one process alone. What DDP and FSDP2 add and spread is torch's own code, so that is what runs here, as rank 0 of many: its
shards are the largest, for rows are padded so that all ranks but the last ones hold equally many.
"""

from __future__ import annotations

from typing import Any

import torch

from vramcast.allocator import AllocatorConfig
from vramcast.errors import RecordingError, VramcastError
from vramcast.forecast import Forecast
from vramcast.forecast.answer import built_from
from vramcast.forecast.source import RecordedSource
from vramcast.gpt.checkpoint import gathered_states
from vramcast.gpt.processes import build_accelerator
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.start import Start
from vramcast.gpt.step import training_step
from vramcast.gpt.trainee import Trainee
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.record.failures import explained
from vramcast.record.training import position_elements
from vramcast.record.training_loop import STEPS
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.patches.distributed_environment import DEFAULT_GPUS_PER_NODE, as_one_of


def rehearsed_forecast(
    settings: TrainSettings,
    job: TrainingJob,
    config: ModelConfig,
    gpu: GPU,
    processes: int,
    progress: Progress | None = None,
) -> Forecast:
    """The forecast of one GPU of `processes`. No process group may be there: see `rehearsal_process`.

    Args:
        settings: the run's; where the job says otherwise, the job counts.
        job: what one process does in one optimizer step; its `sequence_length` must be set.
        config: architecture of the model.
        gpu: the card each process has.
        processes: how many, each with one card.
        progress: told of the steps.

    Raises:
        InputError: a setting that several processes cannot run.
        RecordingError: the job fails by itself as one of several processes, or does what cannot be followed.
    """
    settings = settings.model_copy(update=job.model_dump(include=set(TrainSettings.model_fields)))
    machine = VirtualGPU(
        gpu,
        allocator_config=AllocatorConfig(expandable_segments=job.expandable_segments),
        device_count=min(processes, DEFAULT_GPUS_PER_NODE),
        mark_phases=True,
    )
    machine.max_known_elements = max(machine.max_known_elements, position_elements(job))
    try:
        with as_one_of(processes), explained(job, "batch_size x sequence_length"), machine:
            # Held until the virtual GPU is gone: what a run leaves must not be freed in the recording.
            held = _rehearse(machine, settings, job, Start(config, None, None), processes, progress)
            recording = machine.recording()
    except VramcastError:
        raise
    except Exception as error:  # whatever torch's wrappers refuse here they would refuse in the run
        raise RecordingError(f"one of {processes} processes fails: {type(error).__name__}: {error}") from error
    del held
    forecast = built_from(RecordedSource(recording), job, "training", config, gpu, world_size=processes).forecast
    together = {"distributed": settings.distributed, "processes": processes}
    return forecast.model_copy(update={"settings": forecast.settings | together})


def _rehearse(
    machine: VirtualGPU,
    settings: TrainSettings,
    job: TrainingJob,
    start: Start,
    processes: int,
    progress: Progress | None,
) -> Any:
    """The first checkpoint, steps, another checkpoint, a step: gathering shards may leave blocks that the steps find."""
    accelerator = build_accelerator(settings)
    trainee = Trainee.build(settings, job, start, accelerator)
    shape = (job.gradient_accumulation_steps, job.batch_size, job.sequence_length or 0)
    for step in range(STEPS):
        if progress is not None:
            progress(f"forecasting one of {processes} processes", step, STEPS)
        if step != 1:
            gathered_states(trainee.model, trainee.optimizer, step)
        batches = machine.host_tensor(shape, torch.long)
        training_step(accelerator, trainee.model, trainee.stepping, batches, settings)
    return trainee
