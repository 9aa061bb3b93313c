"""One optimizer step: the loop a forecast is made of, run for real."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from vramcast.gpt.processes import gradients_exchanged
from vramcast.gpt.settings import TrainSettings
from vramcast.record.building import attention_backend

LOWEST_COSINE = 0.1


def training_step(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, micro_batches: torch.Tensor, settings: TrainSettings
) -> torch.Tensor:
    """Forward and backward of every micro batch (A, B, T), then the update; the mean loss, still on the device."""
    losses = []
    for number, micro_batch in enumerate(micro_batches):
        batch = micro_batch.to(accelerator.device)  # (B, T)
        last = number == len(micro_batches) - 1
        with gradients_exchanged(model, now=last), attention_backend(settings.attention):
            with accelerator.autocast():
                loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            if len(micro_batches) > 1:
                loss = loss / len(micro_batches)
            # accelerate's own `backward` divides even by one, which costs two scalars on the device.
            (loss if accelerator.scaler is None else accelerator.scaler.scale(loss)).backward()
        losses.append(loss.detach())
    accelerator.unscale_gradients(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return torch.stack(losses).sum()


def seed_of_step(settings: TrainSettings, step: int, process: int) -> int:
    """What dropout draws from in a step follows from seed, step and process alone: nothing has to be saved to go on."""
    return int(np.random.SeedSequence([settings.seed, step, process]).generate_state(1)[0])


def learning_rate_at(settings: TrainSettings, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    if step < settings.warmup_iters:
        return settings.learning_rate * (step + 1) / settings.warmup_iters
    if settings.schedule == "constant":
        return settings.learning_rate
    done = min(1.0, (step - settings.warmup_iters) / max(1, settings.max_iters - settings.warmup_iters))
    return settings.learning_rate * (LOWEST_COSINE + (1 - LOWEST_COSINE) * (1 + math.cos(math.pi * done)) / 2)
