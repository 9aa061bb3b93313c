"""Grouped matrix products (one per expert) in every dtype CUDA takes: torch's `meta` kernel knows bf16 alone.

On CUDA fp32 and fp16 run as a loop of products into the same output. The output's rows are padded to 16 bytes.

Source: `_grouped_mm_cuda` in `aten/src/ATen/native/cuda/GroupedBlas.cpp`, `create_grouped_gemm_output_tensor` in `GroupedMMUtils.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

ROW_ALIGNMENT_BYTES = 16


def meta_kernels() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(operator, kernel) pairs for `meta`."""
    yield "_grouped_mm", _grouped_mm


def _grouped_mm(
    a: torch.Tensor,
    b: torch.Tensor,
    offs: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """(S, K) x (G, K, N) -> (S, N); (M, S) x (S, N) -> (G, M, N); (G, M, K) x (K, S) -> (M, S); (G, M, K) x (G, K, N) -> (G, M, N)."""
    dtype = out_dtype or a.dtype
    size: tuple[int, ...]
    if a.dim() == 2 and b.dim() == 2:
        assert offs is not None
        size = (offs.shape[0], a.shape[0], b.shape[1])
    elif a.dim() == 2:
        size = (a.shape[0], b.shape[2])
    elif b.dim() == 2:
        size = (a.shape[1], b.shape[1])
    else:
        size = (a.shape[0], a.shape[1], b.shape[2])
    alignment = ROW_ALIGNMENT_BYTES // dtype.itemsize
    row = -(-size[-1] // alignment) * alignment
    stride = (row, 1) if len(size) == 2 else (size[1] * row, row, 1)
    return torch.empty_strided(size, stride, dtype=dtype, device="meta")
