"""A training job on real hardware: the loop that vramcast's recorder runs, with readings in place of its marks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from validation.campaign_jobs import CampaignJob
from vramcast.record.building import (
    ModelBuilder,
    attention_backend,
    autocast_region,
    enable_checkpointing,
    weight_dtype,
)
from vramcast.record.optimizers import build_optimizer

if TYPE_CHECKING:
    from validation.campaign_machine import Machine

STEPS = 3
_DEFAULTS = {
    "batch_size": 1,
    "precision": "fp32",
    "optimizer": "adamw",
    "attention": "sdpa",
    "checkpointing": "none",
    "dropout": None,
    "gradient_accumulation_steps": 1,
    "max_grad_norm": None,
}


def training_options(job: CampaignJob) -> SimpleNamespace:
    """The job's options, defaults filled in as `vramcast.job.TrainingJob` fills them in."""
    return SimpleNamespace(**(_DEFAULTS | job.options()))


def model_config(job: CampaignJob) -> Any:
    """What `vramcast.record.building.ModelBuilder` reads of a model's configuration."""
    fields = job.config()
    return SimpleNamespace(name=job.fields["model"], model_type=fields["model_type"], fields=fields)


def run_training(job: CampaignJob, machine: Machine, ready: Callable[[], None]) -> dict[str, Any]:
    """Three optimizer steps; `ready` is called after the part that needs no GPU."""
    options = training_options(job)
    build = ModelBuilder(
        model_config(job),
        attention=options.attention,
        dtype=weight_dtype(options.precision),
        dropout=options.dropout,
    )
    # The virtual GPU wants to see the birth of the parameters; a real one only their move.
    built = None if machine.kind == "virtual" else build()
    ready()
    with machine.entered():
        train(options, machine, build() if built is None else built)
        return machine.readings()


def train(options: SimpleNamespace, machine: Machine, built: Any) -> None:
    """Move the model to the device and run the steps."""
    model = built.to(machine.device).train()
    if options.checkpointing == "full":
        enable_checkpointing(model)
    optimizer = build_optimizer(options.optimizer, list(model.parameters()))
    scaler = torch.amp.GradScaler("cuda") if options.precision == "amp-fp16" else None
    machine.mark("after_load")
    with attention_backend(options.attention):
        for step in range(STEPS):
            _step(options, machine, model, optimizer, scaler, step)
    machine.synchronize()
    if scaler is not None:
        # A scale below the first one tells of steps that the scaler skipped, and of states that came later.
        machine.notes["loss_scale"] = scaler.get_scale()


def _step(options: SimpleNamespace, machine: Machine, model: Any, optimizer: Any, scaler: Any, step: int) -> None:
    vocab_size = model.config.get_text_config().vocab_size
    for _ in range(options.gradient_accumulation_steps):
        batch = torch.randint(vocab_size, (options.batch_size, options.sequence_length)).to(machine.device)
        with autocast_region(options.precision):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        if options.gradient_accumulation_steps > 1:
            loss = loss / options.gradient_accumulation_steps
        machine.mark("after_forward", step)
        (loss if scaler is None else scaler.scale(loss)).backward()
        machine.mark("after_backward", step)
    if options.max_grad_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    machine.mark("after_optimizer", step)
    optimizer.zero_grad(set_to_none=True)
    del batch, loss
    machine.mark("after_step", step)
