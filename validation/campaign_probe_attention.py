"""Attention kernels: which one `scaled_dot_product_attention` takes, and what it needs besides its tensors.

Source of the questions: `aten/src/ATen/native/transformers/cuda/sdp_utils.cpp` and the kernels' host code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from validation.campaign_observe import leaf, observe_both, observe_warm, unless_refused

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_HALF, _FULL = torch.bfloat16, torch.float32
_SCRATCH_SHAPES = (
    # dtype, B, H, K, T, D, causal
    (_HALF, 8, 12, 12, 1024, 64, True),
    (_HALF, 1, 12, 12, 1024, 64, True),
    (_HALF, 2, 32, 8, 1024, 64, True),
    (_HALF, 1, 32, 8, 2048, 128, True),
    (_HALF, 2, 8, 8, 333, 80, True),
    (_HALF, 1, 8, 4, 512, 256, True),
    (_FULL, 4, 12, 12, 1024, 64, True),
    (_FULL, 1, 8, 8, 512, 128, False),
)


class _OperatorNames(TorchDispatchMode):
    """Collects the attention operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def sdpa_choice(**_: Any) -> dict[str, Any]:
    """The kernel taken for every case of a table of conditions."""
    return {name: unless_refused(partial(_kernel_taken, **case)) for name, case in _choice_cases()}


def _choice_cases() -> Iterator[tuple[str, dict[str, Any]]]:
    dtypes, head_dims = ("bfloat16", "float16", "float32"), (32, 64, 80, 100, 128, 192, 256)
    for dtype, head_dim, training in itertools.product(dtypes, head_dims, (True, False)):
        name = f"{dtype}-d{head_dim}-{'training' if training else 'inference'}"
        yield name, {"dtype": dtype, "head_dim": head_dim, "training": training}
    variants: dict[str, dict[str, Any]] = {
        "not-causal": {"causal": False},
        "bool-mask": {"mask": "bool", "causal": False},
        "bool-mask-odd-length": {"mask": "bool", "causal": False, "length": 333},
        "additive-mask": {"mask": "additive", "causal": False},
        "dropout": {"dropout": 0.1},
        "gqa": {"num_key_value_heads": 2},
        "gqa-dropout": {"num_key_value_heads": 2, "dropout": 0.1},
        "gqa-mask": {"num_key_value_heads": 2, "mask": "bool", "causal": False},
        "one-query": {"query_length": 1, "causal": False},
        "one-query-gqa": {"query_length": 1, "causal": False, "num_key_value_heads": 2},
        "fewer-queries-causal": {"query_length": 64},
        "odd-length": {"length": 333},
    }
    for (variant, case), dtype, training in itertools.product(variants.items(), ("bfloat16", "float32"), (True, False)):
        yield (
            f"{dtype}-{variant}-{'training' if training else 'inference'}",
            case | {"dtype": dtype, "training": training},
        )


def _kernel_taken(
    *,
    dtype: str,
    training: bool,
    head_dim: int = 64,
    num_key_value_heads: int = 8,
    length: int = 256,
    query_length: int | None = None,
    mask: str | None = None,
    causal: bool = True,
    dropout: float = 0.0,
) -> str:
    kind = getattr(torch, dtype)
    query = torch.randn(2, 8, query_length or length, head_dim, dtype=kind, device="cuda", requires_grad=training)
    key, value = (
        torch.randn(2, num_key_value_heads, length, head_dim, dtype=kind, device="cuda", requires_grad=training)
        for _ in range(2)
    )
    attn_mask = None
    if mask is not None:
        attn_mask = torch.ones(
            2, 1, query.shape[2], length, dtype=torch.bool if mask == "bool" else kind, device="cuda"
        )
    with _OperatorNames() as seen:
        F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout, causal, enable_gqa=num_key_value_heads != query.shape[1]
        )
    # The math path is no operator of its own at this depth: it is taken where no kernel shows.
    kernels = [name for name in seen.names if name.startswith("_scaled_dot_product")]
    return kernels[0].removeprefix("_scaled_dot_product_") if kernels else "math"


def scratch_attention(**_: Any) -> dict[str, Any]:
    """Forward and backward of every backend at a few shapes; `refused` where PyTorch does not take it."""
    seen: dict[str, Any] = {}
    for (backend, choice), shape in itertools.product(_BACKENDS.items(), _SCRATCH_SHAPES):
        dtype, batch_size, num_heads, num_key_value_heads, length, head_dim, causal = shape
        sizes = f"B{batch_size}H{num_heads}K{num_key_value_heads}T{length}D{head_dim}"
        name = f"{backend}-{str(dtype).removeprefix('torch.')}-{sizes}"
        query = leaf(batch_size, num_heads, length, head_dim, dtype=dtype)
        key, value = (leaf(batch_size, num_key_value_heads, length, head_dim, dtype=dtype) for _ in range(2))
        with sdpa_kernel([choice]):
            seen[name] = _forward_and_backward(query, key, value, causal)
    return seen


def _forward_and_backward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool) -> Any:
    def forward() -> torch.Tensor:
        gqa = query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=gqa)

    def measured() -> dict[str, Any]:
        seen = observe_both(forward, (query, key, value))
        with torch.no_grad():
            return seen | {"inference": observe_warm(forward)}

    return unless_refused(measured)
