"""Records a training job: the plain loop of `training_loop`, run for real on the virtual GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from vramcast.progress import Progress
from vramcast.record.building import ModelBuilder, weight_dtype
from vramcast.record.failures import explained
from vramcast.record.training_loop import STEPS, TrainingStage, forward_and_backward, run_training
from vramcast.timeline import OperatorTable, Recording
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.operator_log import OperatorInterval

if TYPE_CHECKING:
    from vramcast.hardware import GPU
    from vramcast.job import TrainingJob
    from vramcast.models import ModelConfig

MAX_POSITION_ELEMENTS = 1 << 24
"""Elements of a batch's positions that are followed by value."""


def record_training(
    job: TrainingJob,
    config: ModelConfig,
    gpu: GPU,
    *,
    steps: int = STEPS,
    runs_model: bool = True,
    keeps_empty_scratch: bool = False,
    progress: Progress | None = None,
) -> Recording:
    """Run `steps` optimizer steps of the job on a virtual GPU.

    Without `runs_model` gradients appear by themselves: for who only asks what the optimizer does with them. With
    `keeps_empty_scratch` the recording can stand for other sizes (see `VirtualGPU`).

    `job.sequence_length` must be set. The timeline is marked `after_load`, then in every step `after_forward`, `after_backward`,
    `after_optimizer` and `after_step`.
    """
    build = ModelBuilder(config, attention=job.attention, dtype=weight_dtype(job.precision), dropout=job.dropout)
    sizes = "batch_size x sequence_length"
    with explained(job, sizes), VirtualGPU(gpu, keeps_empty_scratch=keeps_empty_scratch) as machine:
        machine.max_known_elements = max(machine.max_known_elements, position_elements(job))
        stage = _RecordingStage(machine, steps, progress)
        gradients = forward_and_backward if runs_model else gradients_alone
        # Held until the virtual GPU is gone: what a loop leaves must not be freed in the recording.
        trained = run_training(job, stage, build(), steps=steps, gradients=gradients)
        recording = machine.recording({"step": OperatorTable.of(chain(*stage.tables))})
    del trained
    recording.section_operators = stage.tables
    recording.assumptions += build.notes
    return recording


class _RecordingStage:
    """The virtual GPU as a stage: cuts an optimizer step at its marks, and keeps the operators of each section of the last step."""

    device = "cuda"

    def __init__(self, machine: VirtualGPU, steps: int, progress: Progress | None) -> None:
        self.machine = machine
        self._steps, self._progress = steps, progress
        self._interval: OperatorInterval | None = None
        self.tables: list[OperatorTable] = []

    def begin_step(self, step: int) -> None:
        """An optimizer step begins."""
        if self._progress is not None:
            self._progress("recording optimizer steps", step, self._steps)
        self.tables = []
        self._begin()

    def batch(self, batch_size: int, sequence_length: int) -> torch.Tensor:
        """Token ids that nobody knows."""
        return self.machine.host_tensor((batch_size, sequence_length), torch.long).to("cuda")

    def in_phase(self, name: str) -> AbstractContextManager[None]:
        """The name that allocations get."""
        return self.machine.in_phase(name)

    def end(self, mark: str) -> None:
        """A section ends here."""
        if self._interval is not None:
            self.tables.append(self.machine.operators.end(self._interval).table())
        self.machine.mark(mark)
        self._interval = None
        if mark not in ("after_load", "after_step"):
            self._begin()

    def _begin(self) -> None:
        self._interval = self.machine.operators.begin()


def position_elements(job: TrainingJob) -> int:
    """Of a batch's positions, which are followed by value: whether they start anew inside a row decides if attention gets a mask."""
    assert job.sequence_length is not None
    return min(job.batch_size * (job.sequence_length + 1), MAX_POSITION_ELEMENTS)


def gradients_alone(job: TrainingJob, stage: TrainingStage, model: Any, scaler: Any) -> None:
    """Gradients without the passes that make them; the stage must be the virtual GPU."""
    assert isinstance(stage, _RecordingStage)
    stage.machine.categories.module_is_entered(model)
    stage.machine.library.assume_forward_ran()
    stage.end("after_forward")
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    if scaler is not None:
        scaler.scale(torch.zeros((), device="cuda"))
    stage.end("after_backward")
