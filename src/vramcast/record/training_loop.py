"""The plain training loop a user would write: one text for who records it and for who measures it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from vramcast.record.building import attention_backend, autocast_region, enable_checkpointing
from vramcast.record.optimizers import build_optimizer

if TYPE_CHECKING:
    from vramcast.job import TrainingJob

STEPS = 3
"""The first step has no optimizer states yet, the second meets the blocks the first left behind, the third shows that it repeats."""


class TrainingStage(Protocol):
    """Where the loop runs, and what watches it there."""

    @property
    def device(self) -> str:
        """What the code calls the device: `cuda` or `cpu`."""

    def begin_step(self, step: int) -> None:
        """An optimizer step begins; `step` counts from 0."""

    def batch(self, batch_size: int, sequence_length: int) -> torch.Tensor:
        """Token ids on the device, [B, T]."""

    def in_phase(self, name: str) -> AbstractContextManager[None]:
        """Around work whose phase nothing else tells."""

    def end(self, mark: str) -> None:
        """A part of the loop ends here: `after_load`, then in every step `after_forward` and `after_backward` of each micro batch,
        `after_optimizer` and `after_step`."""


class Trained(NamedTuple):
    """What a loop leaves; as long as it is held, nothing of it is freed."""

    model: Any
    optimizer: Any
    scaler: Any
    """The gradient scaler of `amp-fp16`, else None."""


Gradients = Callable[["TrainingJob", TrainingStage, Any, Any], Any]
"""Called with the job, the stage, the model and the scaler; what it returns is held until the end of the step."""


def run_training(
    job: TrainingJob, stage: TrainingStage, built: Any, *, steps: int = STEPS, gradients: Gradients | None = None
) -> Trained:
    """Move a model to the device and run optimizer steps.

    Args:
        job: what is trained; its `sequence_length` must be set.
        stage: the device.
        built: the model, on the host.
        steps: how many optimizer steps.
        gradients: what runs in place of the forward and backward passes.
    """
    model = built.to(stage.device).train()
    if job.checkpointing == "full":
        enable_checkpointing(model)
    optimizer = build_optimizer(job.optimizer, list(model.parameters()))
    scaler = torch.amp.GradScaler(stage.device) if job.precision == "amp-fp16" else None
    trained = Trained(model, optimizer, scaler)
    stage.end("after_load")
    with attention_backend(job.attention):
        for step in range(steps):
            stage.begin_step(step)
            training_step(job, stage, trained, gradients or forward_and_backward)
            stage.end("after_step")
    return trained


def training_step(job: TrainingJob, stage: TrainingStage, trained: Trained, gradients: Gradients) -> None:
    """One optimizer step; it does not mark its end."""
    model, optimizer, scaler = trained
    held = gradients(job, stage, model, scaler)  # a user's loop holds its last batch and loss until the end of the step
    with stage.in_phase("optimizer"):
        _update(job, model, optimizer, scaler)
    stage.end("after_optimizer")
    optimizer.zero_grad(set_to_none=True)
    del held


def forward_and_backward(job: TrainingJob, stage: TrainingStage, model: Any, scaler: Any) -> Any:
    """Every micro batch; returns the last batch and loss."""
    batch = loss = None
    assert job.sequence_length is not None
    for _ in range(job.gradient_accumulation_steps):
        batch = stage.batch(job.batch_size, job.sequence_length)
        with autocast_region(job.precision, stage.device):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        if job.gradient_accumulation_steps > 1:
            loss = loss / job.gradient_accumulation_steps
        stage.end("after_forward")
        (loss if scaler is None else scaler.scale(loss)).backward()
        stage.end("after_backward")
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
