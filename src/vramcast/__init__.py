"""Forecast of GPU memory for transformer training and generation, before the job is launched and without a GPU.

vramcast.training("gpt2", batch_size=8).peak_allocated_bytes
vramcast.generation("llama-3-8b", prompt_length=8000, max_new_tokens=192)
vramcast.fit("llama-3-8b", precision="bf16", on=["rtx-4090", "a100-80gb"]).choice
vramcast.sweep("gpt2", batch_sizes=[1, 2, 4, 8], sequence_lengths=[256, 512, 1024])
vramcast.explanation("gpt2", batch_size=8).formula

with vramcast.virtual_gpu("a100-80gb") as gpu:
    ...  # ordinary PyTorch code that says device="cuda"
gpu.forecast()

assert vramcast.run("train.py", "--batch-size", "8", gpu="rtx-4090").peak_reserved_bytes < 20 * 2**30
"""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from vramcast.errors import (
    InputError,
    MissingExtraError,
    ModelConfigError,
    RecordingError,
    ScriptError,
    SnapshotError,
    UnknownGPUError,
    UnknownModelError,
    VramcastError,
)

if TYPE_CHECKING:
    from vramcast.explain import Explanation
    from vramcast.forecast import Forecast
    from vramcast.forecast.script_run import ScriptRun
    from vramcast.plan import FitMatrix, Sweep
    from vramcast.plan.ask import Workload
    from vramcast.virtual_cuda import VirtualGPU

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "MissingExtraError",
    "ModelConfigError",
    "RecordingError",
    "ScriptError",
    "SnapshotError",
    "UnknownGPUError",
    "UnknownModelError",
    "VramcastError",
    "__version__",
    "explanation",
    "fit",
    "generation",
    "run",
    "sweep",
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


def fit(
    model: str,
    *,
    workload: "Workload" = "training",
    on: Iterable[str] = (),
    prices: Mapping[str, float] | None = None,
    offline: bool = False,
    **fields: Any,
) -> "FitMatrix":
    """One job over many cards: on which it fits, the largest batch and the longest sequence on each, and which card to take.

    Args:
        model: a preset, a config.json or its folder, or a Hub id.
        workload: `training` or `generation`.
        on: names of cards; every card of the hardware file if none is given and `gpu` is not among `fields`.
        prices: US dollars per hour by name of card.
        offline: never ask the Hugging Face Hub.
        fields: those of `vramcast.job.TrainingJob`, or of `GenerationJob`.

    Raises:
        InputError: a field is unknown or its value not usable, or the job can run on none of the cards.
        MissingExtraError: torch is needed and not installed.
    """
    from vramcast.plan import fit_model

    return fit_model(model, workload=workload, on=on, prices=prices, offline=offline, **fields)


def sweep(
    model: str,
    *,
    batch_sizes: Sequence[int],
    sequence_lengths: Sequence[int],
    quick: bool = False,
    offline: bool = False,
    **fields: Any,
) -> "Sweep":
    """Peaks of a training job at every pair of a batch size and a sequence length.

    Args:
        model: a preset, a config.json or its folder, or a Hub id.
        batch_sizes: sequences in one forward.
        sequence_lengths: tokens of each.
        quick: live tensors only (a lower bound of what is allocated), with no replay through the allocator.
        offline: never ask the Hugging Face Hub.
        fields: those of `vramcast.job.TrainingJob` but the two sizes.

    Raises:
        InputError: a field is unknown or its value not usable, or a sequence is longer than the model takes.
        MissingExtraError: torch is needed and not installed.
    """
    from vramcast.plan import sweep_model

    return sweep_model(
        model, batch_sizes=batch_sizes, sequence_lengths=sequence_lengths, quick=quick, offline=offline, **fields
    )


def explanation(model: str, *, offline: bool = False, **fields: Any) -> "Explanation":
    """Where each byte of a training job comes from: what is alive at the peak, the peak as a formula, switches, the textbook.

    `vramcast explain` on the command line. `fields` and errors as for `training`.
    """
    from vramcast.explain import explain_model

    return explain_model(model, offline=offline, **fields)


def virtual_gpu(gpu: str = "a100-80gb", **settings: Any) -> "VirtualGPU":
    """A GPU that is not there: inside `with vramcast.virtual_gpu("rtx-3090") as gpu:` code that says `device="cuda"` runs.

    Args:
        gpu: a row of the hardware file.
        settings: further arguments of `vramcast.virtual_cuda.VirtualGPU`, such as `allocator_config`, or `capacity_bytes="card"`: without
            it code never runs out of memory, and the forecast says whether it would.

    Raises:
        UnknownGPUError: no such row.
        MissingExtraError: torch is not installed.
    """
    from vramcast.forecast.engine import virtual_gpu_class
    from vramcast.hardware import find_gpu

    return virtual_gpu_class()(find_gpu(gpu), **settings)


def run(
    script: str | PathLike[str],
    *arguments: str,
    module: bool = False,
    folder: str | PathLike[str] | None = None,
    **options: Any,
) -> "ScriptRun":
    """Run a training or generation script, unmodified, on a virtual GPU, in a process of its own.

    `vramcast run` on the command line. For tests: `assert vramcast.run("train.py", gpu="rtx-4090").verdict == "fits"`.

    Args:
        script: path of a Python script, or the name of a module.
        arguments: the script's own.
        module: run it as `python -m` does.
        folder: the folder to run in; the current one if not given.
        options: `gpu`, `steps`, `until_end`, `capacity` and the other fields of `vramcast.job.script.ScriptOptions`.

    Raises:
        InputError: an option is unknown or its value not usable.
        RecordingError: the script cannot be followed.
        ScriptError: the script failed by itself; one that runs out of memory has not, and says so in its answer.
        MissingExtraError: torch is not installed.
    """
    from vramcast.script_process.from_python import run_in_process

    return run_in_process(script, arguments, module=module, folder=folder, **options)
