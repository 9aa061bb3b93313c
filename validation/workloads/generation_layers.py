"""Building blocks that several publishers' decoders share, written as plain functions."""

from __future__ import annotations

import torch
from torch import nn


def rms_norm_fp32(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """RMSNorm as Hugging Face models write it: statistics in fp32, weight applied in the input's dtype."""
    dtype = x.dtype
    x = x.to(torch.float32)
    variance = x.pow(2).mean(-1, keepdim=True)
    x = x * torch.rsqrt(variance + eps)
    return weight * x.to(dtype)


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """(x1, x2) -> (-x2, x1) over halves of the last dimension."""
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def repeat_kv(x: torch.Tensor, times: int) -> torch.Tensor:
    """[B, K, T, D] -> [B, K * times, T, D], a copy unless `times` is 1."""
    if times == 1:
        return x
    batch, heads, length, width = x.shape
    return x[:, :, None].expand(batch, heads, times, length, width).reshape(batch, heads * times, length, width)


def linear(inputs: int, outputs: int, *, bias: bool = False, dtype: torch.dtype = torch.bfloat16) -> nn.Linear:
    """A linear layer on the GPU."""
    return nn.Linear(inputs, outputs, bias=bias, device="cuda", dtype=dtype)


def embedding(entries: int, width: int, dtype: torch.dtype = torch.bfloat16) -> nn.Embedding:
    """An embedding table on the GPU."""
    return nn.Embedding(entries, width, device="cuda", dtype=dtype)


def weight(*shape: int, dtype: torch.dtype = torch.bfloat16) -> nn.Parameter:
    """A bare parameter on the GPU."""
    return nn.Parameter(torch.empty(shape, device="cuda", dtype=dtype))
