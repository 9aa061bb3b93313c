"""Workspaces of cuBLAS and cuBLASLt: which call allocates one, how large it is, and what ends it.

Source of the question: `aten/src/ATen/cuda/CublasHandlePool.cpp`, whose policy has changed with PyTorch 2.9, 2.11 and
after 2.13.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from validation.campaign_observe import leaf, observe, observe_gradient

_SIZE = 256


def cublas(*, dtype: str, **_: Any) -> dict[str, Any]:
    """Each call in the order given; a workspace shows as `persistent_bytes` of the first call that needs it."""
    kind = getattr(torch, dtype)
    left, right, bias = leaf(_SIZE, _SIZE, dtype=kind), leaf(_SIZE, _SIZE, dtype=kind), leaf(_SIZE, dtype=kind)
    batch = leaf(4, _SIZE, _SIZE, dtype=kind)
    with torch.no_grad():
        seen = {
            "first_mm": observe(lambda: left @ right),
            "second_mm": observe(lambda: left @ right),
            "first_addmm_with_bias": observe(lambda: F.linear(left, right, bias)),
            "second_addmm_with_bias": observe(lambda: F.linear(left, right, bias)),
            "bmm": observe(lambda: torch.bmm(batch, batch)),
            "mv": observe(lambda: left @ bias),
        }
    seen["first_backward"] = observe_gradient(left @ right, (left, right))
    seen["second_backward"] = observe_gradient(left @ right, (left, right))
    seen["backward_of_linear"] = observe_gradient(F.linear(left, right, bias), (left, right, bias))
    seen["second_stream_mm"] = _on_second_stream(left, right)
    seen["empty_cache"] = observe(torch.cuda.empty_cache)
    seen["mm_after_empty_cache"] = observe(lambda: left @ right)
    return seen


def _on_second_stream(left: torch.Tensor, right: torch.Tensor) -> dict[str, int]:
    stream = torch.cuda.Stream()

    def product() -> torch.Tensor:
        with torch.cuda.stream(stream), torch.no_grad():
            return left @ right

    return observe(product)
