"""RMSNorm as CUDA runs it: one fused kernel when weight and input have the same dtype.

Source: `aten/src/ATen/native/layer_norm.cpp`, `rms_norm_symint` (fused on CUDA since PyTorch 2.9, PR 153666): a weight of another
dtype or a complex input takes the composite path, which keeps two fp32 copies of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the CUDA layer."""

    def rms_norm(
        x: torch.Tensor, normalized_shape: list[int], weight: torch.Tensor | None = None, eps: float | None = None
    ) -> Any:
        fused = machine.fuses_rms_norm and (weight is None or weight.dtype == x.dtype) and not x.is_complex()
        if fused and machine.is_on_gpu(x):
            return torch.ops.aten._fused_rms_norm.default(x, normalized_shape, weight, eps)[0]
        return machine.below_cuda_layer(torch.ops.aten.rms_norm.default, x, normalized_shape, weight, eps)

    yield "rms_norm", rms_norm


def meta_kernels() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for `meta`: torch has none for the fused norm, and so would decompose it."""
    yield "_fused_rms_norm", _forward
    yield "_fused_rms_norm_backward", _backward


def _forward(
    x: torch.Tensor, normalized_shape: list[int], weight: torch.Tensor | None, eps: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output in the input's dtype, and fp32 reciprocal root mean squares, one for each row."""
    rows = (*x.shape[: x.dim() - len(normalized_shape)], *(1 for _ in normalized_shape))
    accumulation = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    return torch.empty_like(x), torch.empty(rows, dtype=accumulation, device="meta")


def _backward(
    grad_out: torch.Tensor,
    x: torch.Tensor,
    normalized_shape: list[int],
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    output_mask: list[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    grad_input = torch.empty_like(x) if output_mask[0] else None
    grad_weight = torch.empty_like(weight) if output_mask[1] and weight is not None else None
    return grad_input, grad_weight
