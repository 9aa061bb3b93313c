"""Memory of attention kernels that their tensors do not show: partial results of split keys, cuDNN's workspaces.

Source of the questions: `set_params_splitkv` in `aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp` (accumulators in
fp32, one for each part that the keys are split into, by the number of multiprocessors) and `aten/src/ATen/native/cudnn/MHA.cpp`
(`graph.get_workspace_size()`, which is documented nowhere).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from validation.campaign_observe import leaf, observe_both, observe_warm, unless_refused

_SPLIT_SHAPES = (
    # B, H, K, queries, keys, D
    (1, 12, 12, 1, 128, 64),
    (1, 12, 12, 1, 1024, 64),
    (1, 12, 12, 1, 4096, 64),
    (1, 32, 8, 1, 512, 64),
    (1, 32, 8, 1, 4096, 64),
    (1, 32, 8, 1, 8192, 128),
    (4, 32, 8, 1, 4096, 128),
    (16, 32, 8, 1, 4096, 128),
    (64, 32, 8, 1, 1024, 128),
    (1, 8, 8, 16, 2048, 64),
    (1, 8, 8, 64, 4096, 128),
    (1, 12, 12, 512, 512, 64),
    (1, 32, 8, 4096, 4096, 64),
)
_CUDNN_SHAPES = (
    # B, H, K, T, D, causal
    (1, 12, 12, 256, 64, True),
    (1, 12, 12, 1024, 64, True),
    (8, 12, 12, 1024, 64, True),
    (8, 12, 12, 1024, 64, False),
    (2, 32, 32, 1024, 128, True),
    (2, 32, 8, 1024, 128, True),
    (1, 32, 8, 4096, 128, True),
    (3, 12, 12, 333, 64, True),
)


def split_kv(**_: Any) -> dict[str, Any]:
    """Inference with few queries and many keys, by flash attention and by the backend that PyTorch takes of itself."""
    seen: dict[str, Any] = {}
    for batch_size, num_heads, num_key_value_heads, queries, keys, head_dim in _SPLIT_SHAPES:
        query = leaf(batch_size, num_heads, queries, head_dim)
        key, value = (leaf(batch_size, num_key_value_heads, keys, head_dim) for _ in range(2))
        name = f"B{batch_size}H{num_heads}K{num_key_value_heads}T{queries}S{keys}D{head_dim}"
        seen[f"flash-{name}"] = _inference([SDPBackend.FLASH_ATTENTION], query, key, value)
        seen[f"chosen-{name}"] = _inference(None, query, key, value)
    return seen


def cudnn_attention(**_: Any) -> dict[str, Any]:
    """Forward and backward of cuDNN's kernel over shapes and both 16-bit dtypes, with and without dropout."""
    seen: dict[str, Any] = {}
    for dtype in (torch.bfloat16, torch.float16):
        for dropout in (0.0, 0.1):
            for batch_size, num_heads, num_key_value_heads, length, head_dim, causal in _CUDNN_SHAPES:
                sizes = f"B{batch_size}H{num_heads}K{num_key_value_heads}T{length}D{head_dim}"
                name = f"{str(dtype).removeprefix('torch.')}-{sizes}-{'causal' if causal else 'full'}-drop{dropout}"
                query = leaf(batch_size, num_heads, length, head_dim, dtype=dtype)
                key, value = (leaf(batch_size, num_key_value_heads, length, head_dim, dtype=dtype) for _ in range(2))
                seen[name] = _cudnn(query, key, value, causal, dropout)
    return seen


def _inference(backends: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    gqa = query.shape[1] != key.shape[1]

    def forward() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=gqa)

    with torch.no_grad(), nullcontext() if backends is None else sdpa_kernel(backends):
        return unless_refused(lambda: observe_warm(forward))


def _cudnn(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, dropout: float) -> Any:
    gqa = query.shape[1] != key.shape[1]

    def forward() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, None, dropout, causal, enable_gqa=gqa)

    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
        return unless_refused(lambda: observe_both(forward, (query, key, value)))
