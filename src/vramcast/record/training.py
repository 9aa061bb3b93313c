"""Records a training job: the plain loop a user would write, run for real on the virtual GPU."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from vramcast.progress import Progress
from vramcast.record.building import (
    ModelBuilder,
    attention_backend,
    autocast_region,
    enable_checkpointing,
    weight_dtype,
)
from vramcast.record.failures import explained
from vramcast.record.optimizers import build_optimizer
from vramcast.timeline import OperatorTable, Recording
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.operator_log import OperatorInterval

if TYPE_CHECKING:
    from vramcast.hardware import GPU
    from vramcast.job import TrainingJob
    from vramcast.models import ModelConfig

RECORDED_STEPS = 3
"""The first step has no optimizer states yet, the second meets the blocks the first left behind, the third shows that it repeats."""
MAX_POSITION_ELEMENTS = 1 << 24
"""Elements of a batch's positions that are followed by value."""


def record_training(
    job: TrainingJob,
    config: ModelConfig,
    gpu: GPU,
    *,
    steps: int = RECORDED_STEPS,
    runs_model: bool = True,
    progress: Progress | None = None,
) -> Recording:
    """Run `steps` optimizer steps of the job on a virtual GPU.

    Without `runs_model` gradients appear by themselves: for who only asks what the optimizer does with them.

    `job.sequence_length` must be set. The timeline is marked `after_load`, then in every step `after_forward`, `after_backward`,
    `after_optimizer` and `after_step`.
    """
    build = ModelBuilder(config, attention=job.attention, dtype=weight_dtype(job.precision), dropout=job.dropout)
    with explained(job, "batch_size x sequence_length"), VirtualGPU(gpu) as machine:
        machine.max_known_elements = max(machine.max_known_elements, _elements_of_a_batch(job))
        model = build().to("cuda").train()
        if job.checkpointing == "full":
            enable_checkpointing(model)
        optimizer = build_optimizer(job.optimizer, list(model.parameters()))
        scaler = torch.amp.GradScaler("cuda") if job.precision == "amp-fp16" else None
        machine.mark("after_load")
        sections = _Sections(machine)
        with attention_backend(job.attention):
            for step in range(steps):
                if progress is not None:
                    progress("recording optimizer steps", step, steps)
                sections.begin_step()
                _step(job, machine, sections.end, model, optimizer, scaler, runs_model)
                sections.end("after_step")
        recording = machine.recording({"step": OperatorTable.of(chain(*sections.tables))})
    recording.section_operators = sections.tables
    recording.assumptions += build.notes
    return recording


class _Sections:
    """Cuts an optimizer step at its marks and keeps the operators of each section of the last step."""

    def __init__(self, machine: VirtualGPU) -> None:
        self._machine = machine
        self._interval: OperatorInterval | None = None
        self.tables: list[OperatorTable] = []

    def begin_step(self) -> None:
        """An optimizer step begins."""
        self.tables = []
        self._begin()

    def end(self, mark: str) -> None:
        """A section ends here."""
        assert self._interval is not None
        self.tables.append(self._machine.operators.end(self._interval).table())
        self._machine.mark(mark)
        self._interval = None
        if mark != "after_step":
            self._begin()

    def _begin(self) -> None:
        self._interval = self._machine.operators.begin()


def _elements_of_a_batch(job: TrainingJob) -> int:
    """Positions are followed by value: whether they start anew inside a row decides if attention gets a mask."""
    assert job.sequence_length is not None
    return min(job.batch_size * (job.sequence_length + 1), MAX_POSITION_ELEMENTS)


def _step(
    job: TrainingJob,
    machine: VirtualGPU,
    end_section: Callable[[str], None],
    model: Any,
    optimizer: Any,
    scaler: Any,
    runs_model: bool,
) -> None:
    held: Any = None  # a user's loop holds its last batch and loss until the end of the step
    if runs_model:
        held = _forward_and_backward(job, machine, end_section, model, scaler)
    else:
        _gradients_alone(machine, end_section, model, scaler)
    with machine.in_phase("optimizer"):
        _update(job, model, optimizer, scaler)
    end_section("after_optimizer")
    optimizer.zero_grad(set_to_none=True)
    del held


def _gradients_alone(machine: VirtualGPU, end_section: Callable[[str], None], model: Any, scaler: Any) -> None:
    machine.categories.module_is_entered(model)
    machine.library.assume_forward_ran()
    end_section("after_forward")
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    if scaler is not None:
        scaler.scale(torch.zeros((), device="cuda"))
    end_section("after_backward")


def _forward_and_backward(
    job: TrainingJob, machine: VirtualGPU, end_section: Callable[[str], None], model: Any, scaler: Any
) -> Any:
    """Every micro batch; returns the last batch and loss."""
    batch = loss = None
    assert job.sequence_length is not None
    for _ in range(job.gradient_accumulation_steps):
        batch = machine.host_tensor((job.batch_size, job.sequence_length), torch.long).to("cuda")
        with autocast_region(job.precision):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        if job.gradient_accumulation_steps > 1:
            loss = loss / job.gradient_accumulation_steps
        end_section("after_forward")
        (loss if scaler is None else scaler.scale(loss)).backward()
        end_section("after_backward")
    return batch, loss


def _update(job: TrainingJob, model: Any, optimizer: Any, scaler: Any) -> None:
    if job.max_grad_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
