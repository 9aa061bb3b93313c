"""Parameters of sharded models: `Module.to_empty` swaps them, `reset_parameters` draws them in place, FSDP gathers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.utils
from torch._decomp import decomposition_table
from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

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
    """Replace `torch.utils.swap_tensors`, which refuses a tensor with a weak reference, and see what FSDP gathers."""
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
    _install_gathered(machine, patches)


def _install_gathered(machine: VirtualGPU, patches: PatchSet) -> None:
    """`fully_shard` keeps the whole parameter beside its shard, at most times without memory."""
    init: Any = FSDPParam.init_unsharded_param

    def init_unsharded_param(self: FSDPParam) -> None:
        init(self)
        machine.categories.is_gathered(self._unsharded_param)

    patches.set(FSDPParam, "init_unsharded_param", init_unsharded_param)
