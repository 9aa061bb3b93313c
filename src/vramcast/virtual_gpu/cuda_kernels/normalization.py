"""RMSNorm as CUDA runs it: one fused kernel when weight and input have the same dtype.

Source: `aten/src/ATen/native/layer_norm.cpp`, `rms_norm_symint` (fused on CUDA since PyTorch 2.9, PR 153666): a weight of another
dtype, a complex input or a channels-last input takes the composite path, which keeps two fp32 copies of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vramcast.virtual_gpu.machine import VirtualGPU


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the CUDA layer."""

    def rms_norm(x: torch.Tensor, normalized_shape: list[int], weight: torch.Tensor | None = None, eps: float | None = None) -> Any:
        fused = machine.fuses_rms_norm and (weight is None or weight.dtype == x.dtype) and not x.is_complex()
        if fused and machine.is_on_gpu(x):
            return torch.ops.aten._fused_rms_norm.default(x, normalized_shape, weight, eps)[0]
        return machine.below_cuda_layer(torch.ops.aten.rms_norm.default, x, normalized_shape, weight, eps)

    yield "rms_norm", rms_norm
