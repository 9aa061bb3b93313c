"""Optimizers run their real code; torch only has to believe that the virtual tensors are CUDA tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.storages import torch_device

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> list[Callable[[], None]]:
    """Patch the grouping of tensors by device; returns what removes the step hooks."""
    group = torch._C._group_tensors_by_device_and_dtype

    def group_by_virtual_device(lists: Any, with_indices: bool = False) -> Any:
        groups = group(lists, with_indices)
        return {
            (_device(machine, key[0], tensors), *key[1:]): (tensors, indices)
            for key, (tensors, indices) in groups.items()
        }

    patches.set(torch._C, "_group_tensors_by_device_and_dtype", group_by_virtual_device)
    handles = [
        register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: machine.optimizer_step_begins(optimizer)),
        register_optimizer_step_post_hook(lambda optimizer, args, kwargs: machine.optimizer_step_ends(optimizer)),
    ]
    return [handle.remove for handle in handles]


def _device(machine: VirtualGPU, device: torch.device, lists: Any) -> torch.device:
    for tensors in lists:
        for tensor in tensors:
            if tensor is not None:
                tag = machine.storages.device_of(tensor)
                return device if tag is None else torch_device(tag)
    return device
