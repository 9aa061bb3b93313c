"""Device memory outside the allocator: what a CUDA context holds from the first call to the end of a training step."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from validation.campaign_jobs import CampaignJob
from validation.campaign_machine import driver_used_bytes, process_used_bytes
from validation.campaign_training import model_config, train
from vramcast.record.building import ModelBuilder

if TYPE_CHECKING:
    from validation.campaign_machine import Machine

_MODEL = CampaignJob("context-model", "training", fields={"model": "gpt2", "config": {"n_layer": 2}})


def context(*, machine: Machine, **_: Any) -> dict[str, Any]:
    """At each stage: used on the device and by this process (where the driver tells), and held by the allocator."""
    seen: dict[str, Any] = {"before_cuda": {"driver_used_bytes": _by_driver(machine, driver_used_bytes)}}
    torch.cuda.init()
    seen["after_first_query"] = _reading(machine)
    tensor = torch.ones(1, device=machine.device)
    seen["after_first_tensor"] = _reading(machine)
    torch.cuda.synchronize()
    matrix = torch.ones(64, 64, device=machine.device)
    matrix @ matrix
    seen["after_first_matrix_product"] = _reading(machine)
    half = matrix.bfloat16()
    half @ half
    seen["after_bf16_matrix_product"] = _reading(machine)
    for precision in ("fp32", "amp-bf16"):
        _train_small_gpt2(machine, precision)
        seen[f"after_training_steps_{precision}"] = _reading(machine)
    torch.cuda.empty_cache()
    seen["after_empty_cache"] = _reading(machine)
    del tensor
    return seen


def _train_small_gpt2(machine: Machine, precision: str) -> None:
    build = ModelBuilder(model_config(_MODEL), attention="sdpa", dtype=torch.float32, dropout=0.1)
    options = SimpleNamespace(
        batch_size=2,
        sequence_length=256,
        precision=precision,
        optimizer="adamw",
        attention="sdpa",
        checkpointing="none",
        gradient_accumulation_steps=1,
        max_grad_norm=1.0,
    )
    train(options, machine, build())


def _reading(machine: Machine) -> dict[str, int | None]:
    torch.cuda.synchronize()
    used, reserved = machine.device_used_bytes(), int(torch.cuda.memory_reserved())
    return {
        "device_used_bytes": used,
        # The same meter as before CUDA, for containers, where the driver does not tell the memory of a process.
        "driver_used_bytes": _by_driver(machine, driver_used_bytes),
        "process_used_bytes": _by_driver(machine, process_used_bytes),
        "reserved_bytes": reserved,
        "outside_allocator_bytes": None if used is None else used - reserved,
    }


def _by_driver(machine: Machine, question: Callable[[], int | None]) -> int | None:
    return question() if machine.kind == "cuda" else None
