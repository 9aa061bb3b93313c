"""`DistributedDataParallel` runs as it is, but for the comparison of shapes between the processes, which reads what others sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.utils
import torch.nn.parallel.distributed
from torch.nn.parallel import DistributedDataParallel

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the check in the two modules that know it, and watch where the reducer makes its buckets."""
    for module in (torch.nn.parallel.distributed, torch.distributed.utils):
        patches.set(module, "_verify_param_shape_across_processes", _verify_shapes)
    for name in ("__init__", "_pre_forward"):  # the buckets are made anew when the order of the gradients is known
        patches.set(
            DistributedDataParallel, name, _buckets_are_gradients(machine, getattr(DistributedDataParallel, name))
        )


def _verify_shapes(process_group: Any, tensors: list[torch.Tensor], logger: Any = None) -> None:
    """Take what the check takes: sizes and strides, gathered on the GPU (`verify_params_across_processes` in `reducer.cpp`)."""
    if tensors:
        numbers = sum(2 * tensor.dim() for tensor in tensors)
        sizes = torch.empty(numbers, dtype=torch.int64, device=tensors[0].device)
        gathered = [torch.empty_like(sizes) for _ in range(process_group.size())]
        del sizes, gathered


def _buckets_are_gradients(machine: VirtualGPU, method: Callable[..., Any]) -> Callable[..., Any]:
    """Buckets hold a copy of the gradients, and are shown as such; the forward pass would make activations of them."""

    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        before = len(machine.timeline.allocations)
        result = method(*args, **kwargs)
        for record in machine.storages.records.values():
            made = record.allocation
            if made is not None and record.index >= before and (made.op, made.category) == ("empty", "temporary"):
                made.category = "gradients"
        return result

    return run
