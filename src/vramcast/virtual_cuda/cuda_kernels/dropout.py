"""Dropout as CUDA runs it: one fused kernel that keeps a mask of one byte an element.

On `meta` (and CPU) dropout is composed of `bernoulli_`, `div_` and `mul` with a mask in the input's dtype: four times too large in
fp32. Source: `aten/src/ATen/native/Dropout.cpp`, `is_fused_kernel_acceptable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def kernels(machine: VirtualGPU) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for the CUDA layer."""

    def dropout(x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        if train and 0 < p < 1 and x.numel() > 0 and machine.is_on_gpu(x):
            return torch.native_dropout(x, p, train)[0]
        return machine.below_cuda_layer(torch.ops.aten.dropout.default, x, p, train)  # type: ignore[no-any-return]

    yield "dropout", dropout
