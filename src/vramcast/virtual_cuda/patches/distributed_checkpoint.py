"""`torch.distributed.checkpoint` is left out and noted: virtual tensors have no data, and the other ranks write no part of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.utils._pytree import tree_leaves

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace saving and loading in the package and in the modules that define them."""
    for module, names in ((state_dict_saver, ("save", "async_save")), (state_dict_loader, ("load",))):
        for name in names:
            replacement = _unless_virtual(machine, getattr(module, name), name)
            patches.set(module, name, replacement)
            patches.set(torch.distributed.checkpoint, name, replacement)


def _unless_virtual(machine: VirtualGPU, original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def left_out(state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(leaf, torch.Tensor) and machine.storages.of(leaf) for leaf in tree_leaves(state_dict)):
            return original(state_dict, *args, **kwargs)
        machine.assumptions.add_with_line(
            f"torch.distributed.checkpoint.{name} was left out, for virtual tensors have no data,"
        )
        return None

    return left_out
