"""softmax and log_softmax of fp16 with an fp32 result, as CUDA runs them: one kernel that reads halves and writes floats.

On other devices the input is converted first, which costs a full fp32 copy. Autocast asks for exactly this. bf16 has no such kernel and
is converted on CUDA as well.

Source: `softmax` and `log_softmax` in `aten/src/ATen/native/SoftMax.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

aten = torch.ops.aten


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the CUDA layer."""
    for name, fused in (("softmax", aten._softmax.default), ("log_softmax", aten._log_softmax.default)):
        yield f"{name}.int", _half_to_float(machine, fused, getattr(aten, name).int)


def _half_to_float(machine: VirtualGPU, fused: Any, general: Any) -> Callable[..., Any]:
    def kernel(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
        if x.dtype == torch.float16 and dtype == torch.float32 and machine.is_on_gpu(x):
            return fused(x, dim, True)
        return machine.below_cuda_layer(general, x, dim, dtype)

    return kernel
