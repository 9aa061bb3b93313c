"""One process or many: accelerate finds out how it was started, torch spreads the model. The same code on CPU (gloo) and GPU (NCCL)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from vramcast.errors import InputError, VramcastError
from vramcast.gpt.settings import TrainSettings

Told = TypeVar("Told")
_AUTOCAST = {"amp-bf16": "bf16", "amp-fp16": "fp16"}


def build_accelerator(settings: TrainSettings) -> Accelerator:
    """accelerate's view of this process.

    Raises:
        InputError: a setting that this device cannot run.
    """
    on_cpu = not torch.cuda.is_available()
    if on_cpu and settings.precision == "amp-fp16":
        raise InputError("--precision", settings.precision, "needs a GPU; on a CPU take amp-bf16 or fp32")
    if on_cpu and settings.attention in ("flash", "efficient"):
        raise InputError("--attention", settings.attention, "needs a GPU; on a CPU take sdpa, math or eager")
    # Its settings are global to the process and refuse to change: a second run in one process begins anew.
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=_AUTOCAST.get(settings.precision, "no"))
    if accelerator.num_processes > 1 and settings.distributed == "fsdp" and settings.precision == "amp-fp16":
        raise InputError("--precision", settings.precision, "is not run with fsdp; take amp-bf16")
    return accelerator


def launched_alone(accelerator: Accelerator) -> list[str]:
    """What to say where accelerate launch was asked for several processes and started one.

    Its launcher of a single process sets an address to meet at only if it was asked for more (accelerate, `utils/launch.py`).
    """
    one_of_several = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if accelerator.num_processes > 1 or not one_of_several or "WORLD_SIZE" in os.environ:
        return []
    return [
        "accelerate launch was asked for several processes but started this one alone, which trains with its own batches only; "
        "give it --multi_gpu (on CPUs too), or use torchrun"
    ]


def told_by_main(accelerator: Accelerator, work: Callable[[], Told]) -> Told:
    """What `work` comes to on the main process, told to all; every process calls this and gets the same answer or error.

    Raises:
        VramcastError: raised by `work`.
    """
    told: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            told[0] = work()
        except VramcastError as error:
            told[1] = str(error)
    broadcast_object_list(told)
    if told[1] is not None:
        raise VramcastError(told[1])
    answer: Told = told[0]
    return answer


def spread(model: Any, accelerator: Accelerator, how: str) -> nn.Module:
    """The model on this process's device, wrapped for several processes: replicated (ddp) or sharded block by block (fsdp).

    torch's wrappers are taken as they are: accelerate shards on GPUs only, and its `prepare` converts all logits to fp32 once more.
    """
    device = accelerator.device
    if accelerator.num_processes == 1:
        return model.to(device)  # type: ignore[no-any-return]
    if how == "ddp":
        return DistributedDataParallel(model.to(device), device_ids=[device.index] if device.type == "cuda" else None)
    names = set(model._no_split_modules)
    mesh = init_device_mesh(device.type, (accelerator.num_processes,))
    for block in [module for module in model.modules() if type(module).__name__ in names]:
        fully_shard(block, mesh=mesh)
    sharded: nn.Module = fully_shard(model, mesh=mesh)
    return sharded


@contextmanager
def gradients_exchanged(model: nn.Module, now: bool) -> Iterator[None]:
    """Backward in here exchanges gradients between processes only if `now`: once for all micro batches of a step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
    if isinstance(model, DistributedDataParallel) and not now:
        with model.no_sync():
            yield
    else:
        yield
