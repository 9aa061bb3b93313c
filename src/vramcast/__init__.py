"""Forecast of GPU memory for transformer training and generation, before the job is launched and without a GPU.

vramcast.training("gpt2", batch_size=8).peak_allocated_bytes
vramcast.generation("llama-3-8b", prompt_length=8000, max_new_tokens=192)

with vramcast.virtual_gpu("a100-80gb") as gpu:
    ...  # ordinary PyTorch code that says device="cuda"
gpu.forecast()
"""

from typing import TYPE_CHECKING, Any

from vramcast.errors import (
    InputError,
    MissingExtraError,
    ModelConfigError,
    RecordingError,
    SnapshotError,
    UnknownGPUError,
    UnknownModelError,
    VramcastError,
)

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.virtual_cuda import VirtualGPU

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "MissingExtraError",
    "ModelConfigError",
    "RecordingError",
    "SnapshotError",
    "UnknownGPUError",
    "UnknownModelError",
    "VramcastError",
    "__version__",
    "generation",
    "training",
    "virtual_gpu",
]


def training(model: str, *, offline: bool = False, **fields: Any) -> "Forecast":
    """Forecast of a training job; `fields` are those of `vramcast.job.TrainingJob`.

    Raises:
        InputError: a field is unknown or its value not usable.
        MissingExtraError: torch is needed and not installed.
    """
    from vramcast.forecast import training_forecast
    from vramcast.job import TrainingJob
    from vramcast.job.checking import checked_job

    return training_forecast(checked_job(TrainingJob, {"model": model, **fields}), offline=offline)


def generation(model: str, *, offline: bool = False, **fields: Any) -> "Forecast":
    """Forecast of a generation job; `fields` are those of `vramcast.job.GenerationJob`. Errors as for `training`."""
    from vramcast.forecast import generation_forecast
    from vramcast.job import GenerationJob
    from vramcast.job.checking import checked_job

    return generation_forecast(checked_job(GenerationJob, {"model": model, **fields}), offline=offline)


def virtual_gpu(gpu: str = "a100-80gb", **settings: Any) -> "VirtualGPU":
    """A GPU that is not there: inside `with vramcast.virtual_gpu("rtx-3090") as gpu:` code that says `device="cuda"` runs.

    Args:
        gpu: a row of the hardware file.
        settings: further arguments of `vramcast.virtual_cuda.VirtualGPU`, such as `capacity_bytes` or `allocator_config`.

    Raises:
        UnknownGPUError: no such row.
        MissingExtraError: torch is not installed.
    """
    from vramcast.forecast.engine import virtual_gpu_class
    from vramcast.hardware import find_gpu

    return virtual_gpu_class()(find_gpu(gpu), **settings)
