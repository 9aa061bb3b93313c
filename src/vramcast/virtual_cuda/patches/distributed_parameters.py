"""Parameters that are DTensors: `Module.to_empty` of a sharded model swaps them, and `reset_parameters` draws them in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.utils
from torch._decomp import decomposition_table

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


_UNIFORM = torch.ops.aten.uniform_.default


def draw_uniform_by_kernel() -> Callable[[], None]:
    """Take `uniform_` out of the decompositions; returns what puts it back.

    DTensor asks a fake CUDA tensor for the shape of every result. The decomposition of `uniform_` makes a tensor on that device in
    C++, which a build without CUDA cannot; the operator's own kernel for `meta` answers as well.
    """
    decomposition = decomposition_table.pop(_UNIFORM)

    def restore() -> None:
        decomposition_table[_UNIFORM] = decomposition

    return restore


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
