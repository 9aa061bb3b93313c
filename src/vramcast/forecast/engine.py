"""The one door from the torch-free rooms to the recorder: imported late, and only when a question needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vramcast.errors import check_installed
from vramcast.hardware import GPU
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.tapes.tape import Tape
from vramcast.timeline import Recording

if TYPE_CHECKING:
    from vramcast.virtual_cuda import VirtualGPU


def record_training(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Recording:
    """Record a training job by running it on the virtual GPU."""
    _require_torch("a forecast by direct trace")
    from vramcast.record.training import record_training as record

    return record(job, config, gpu, progress=progress)


def record_model_tape(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Tape:
    """Record the tape of a training job's forward and backward."""
    _require_torch("a job whose tape neither ships with vramcast nor was recorded on this machine")
    from vramcast.record.tape_recording import record_model_tape as record

    return record(job, config, gpu, progress=progress)


def record_optimizer_tape(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Tape:
    """Record the tape of a training job's optimizer step."""
    _require_torch("a job whose tape neither ships with vramcast nor was recorded on this machine")
    from vramcast.record.tape_recording import record_optimizer_tape as record

    return record(job, config, gpu, progress=progress)


def record_generation_tape(job: GenerationJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Tape:
    """Record the tape of a generation job."""
    _require_torch("a job whose tape neither ships with vramcast nor was recorded on this machine")
    from vramcast.record.generation_tape import record_generation_tape as record

    return record(job, config, gpu, progress=progress)


def record_generation(job: GenerationJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> Recording:
    """Record a generation job by running its prefill and first steps on the virtual GPU."""
    _require_torch("a forecast by direct trace")
    from vramcast.record.generation import record_generation as record

    if progress is not None:
        progress("recording the prefill and a few decode steps", 0, 1)
    return record(job, config, gpu)


def _require_torch(needed_for: str) -> None:
    check_installed(needed_for, "record", "torch", "transformers")


def virtual_gpu_class() -> type[VirtualGPU]:
    """The class behind `vramcast.virtual_gpu`."""
    _require_torch("a virtual GPU")
    from vramcast.virtual_cuda import VirtualGPU

    return VirtualGPU


def require_torch_for_scripts() -> None:
    """A script brings its own libraries; torch must be there."""
    check_installed("a dry run of a script", "record", "torch")
