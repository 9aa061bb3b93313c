"""Parameters that are DTensors change places with their moved selves: `Module.to_empty` of a sharded model swaps the two tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.utils

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `torch.utils.swap_tensors`, which refuses a tensor that anybody holds a weak reference to."""
    swap: Any = torch.utils.swap_tensors

    def swap_tensors(t1: torch.Tensor, t2: torch.Tensor) -> None:
        both = [tensor for tensor in (t1, t2) if isinstance(tensor, torch.nn.Parameter)]
        for parameter in both:
            machine.categories.forget_parameter(parameter)
        try:
            swap(t1, t2)
        finally:
            for parameter in both:
                machine.categories.register_parameter(parameter)

    patches.set(torch.utils, "swap_tensors", swap_tensors)
