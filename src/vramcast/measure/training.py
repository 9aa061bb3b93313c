"""Measures a training job: its forecast first, then the real steps with random weights on the device that is present."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vramcast.forecast.answer import built_from, checked_training, training_source
from vramcast.job import TrainingJob
from vramcast.measure.cpu_differences import host_counters_note
from vramcast.measure.job_run import JobRun, measured_job
from vramcast.measure.stages import AllocatorStage, WatchedStage
from vramcast.record.building import ModelBuilder, attention_backend, weight_dtype
from vramcast.record.training_loop import STEPS, forward_and_backward, run_training, training_step

if TYPE_CHECKING:
    from vramcast.hardware import GPU
    from vramcast.measure.measurement import Measurement
    from vramcast.measure.storage_watch import StorageWatch
    from vramcast.models import ModelConfig
    from vramcast.progress import Progress


def measure_training(
    job: TrainingJob,
    *,
    steps: int = STEPS,
    offline: bool = False,
    trace: bool = False,
    snapshot: Path | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Forecast a training job, run it, and set both side by side.

    On a CUDA device the forecast is for the one that is present, whatever the job's `gpu` says, and the memory that is free on it.

    Args:
        job: what is measured.
        steps: optimizer steps; the forecast is that of three.
        offline: never ask the Hugging Face Hub.
        trace: forecast by running the model's own code at full size on the virtual GPU instead of replaying its tape.
        snapshot: where PyTorch's memory snapshot of the run is written (CUDA only).
        progress: told what is done.

    Raises:
        InputError: the model or a field of the job is not usable, or the job is too large for this machine's memory.
    """

    def prepare(present: GPU | None) -> _TrainingRun:
        checked, config, asked = checked_training(job, offline)
        gpu = present or asked
        source = training_source(checked, config, gpu, trace=trace, progress=progress)
        forecast = built_from(source, checked, "training", config, gpu, progress).forecast
        return _TrainingRun(checked, config, forecast, source, steps)

    return measured_job(prepare, snapshot=snapshot)


class _TrainingRun(JobRun[TrainingJob]):
    """A training job on a real device."""

    workload = "training"
    sizes = "batch_size x sequence_length"

    def __init__(self, job: TrainingJob, config: ModelConfig, forecast: Any, source: Any, steps: int) -> None:
        super().__init__(job, config, forecast, source)
        self.steps = steps

    def builder(self) -> ModelBuilder:
        """See `JobRun`."""
        job = self.job
        return ModelBuilder(
            self.config, attention=job.attention, dtype=weight_dtype(job.precision), dropout=job.dropout
        )

    def run_on_cuda(self, built: Any) -> tuple[Any, list[dict[str, Any]]]:
        """See `JobRun`."""
        stage = AllocatorStage(self.vocab_size(built))
        trained = run_training(self.job, stage, built, steps=self.steps)
        return trained, stage.marks

    def run_watched(self, watch: StorageWatch, built: Any, before: Any = None) -> Any:
        """See `JobRun`; after a run on CUDA one more step is watched."""
        stage = WatchedStage(watch, self.vocab_size(built))
        watch.adopt(built, None if before is None else before.optimizer)
        if before is None:
            return run_training(self.job, stage, built, steps=self.steps)
        for tensor in _scaler_tensors(before.scaler):
            watch.set_category(tensor, "activations")  # as where the scaler is watched from its first step
        with attention_backend(self.job.attention):
            training_step(self.job, stage, before, forward_and_backward)
        stage.end("after_step")
        return before

    def notes(self, held: Any) -> list[str]:
        """See `JobRun`."""
        notes = host_counters_note(held.optimizer) if self.device == "cpu" and held is not None else []
        if self.steps < 2:
            notes.append("the first step alone was run: it has no optimizer states at its forward and backward passes")
        return notes


def _scaler_tensors(scaler: Any) -> list[torch.Tensor]:
    """The scale and its counter, made in the first step."""
    held = () if scaler is None else vars(scaler).values()
    return [value for value in held if isinstance(value, torch.Tensor)]
