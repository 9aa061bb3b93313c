"""Sizes of matrix products and of fused attention, read from the arguments of the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Extents = Callable[[Any, Mapping[str, Any]], tuple[int, ...]]
"""Takes the positional arguments of a call, and all of its arguments by name."""


def matmul_extents(first: int) -> Extents:
    """(batch, m, n, k) of the product of the arguments `first` and `first + 1`.

    A grouped product (of experts) is (1, m, n, k) with the dimension that is cut into groups taken whole: how it is cut is not known.
    """

    def extents(args: Any, named: Mapping[str, Any]) -> tuple[int, ...]:
        a, b = args[first], args[first + 1]
        if a.dim() == 1:
            return (1, 1, 1, a.shape[0])
        columns = 1 if b.dim() == 1 else b.shape[-1]
        if named.get("offs") is not None:
            return (1, a.shape[-2], columns, a.shape[-1])
        return (a.shape[0] if a.dim() == 3 else 1, a.shape[-2], columns, a.shape[-1])

    return extents


def matmul_flops(first: int) -> Callable[..., int]:
    """Formula, called as torch calls its own, for a product that torch's counter leaves out; a multiply-add is two FLOPs.

    Grouped products: (S, K) x (G, K, N), (M, S) x (S, N), (G, M, K) x (K, S), where S holds all groups one after the other.
    """

    def flops(*args: Any, **kwargs: Any) -> int:
        a, b = args[first], args[first + 1]
        if a.dim() == 3 and b.dim() == 2:
            return 2 * int(a.shape[1] * b.numel())
        return 2 * int(a.numel()) * (1 if b.dim() == 1 else int(b.shape[-1]))

    return flops


def attention_extents(operator: str) -> Extents:
    """(batch, heads, key_value_heads, query_length, key_length, head_dim, is_causal) of a fused attention kernel.

    `_scaled_dot_product_*` take [B, H, T, D], `_flash_attention_*` and `_efficient_attention_*` [B, T, H, D], or all sequences one
    after the other with their offsets; the lengths are then those of the longest.
    """
    heads_axis, length_axis = (-3, -2) if operator.startswith("_scaled_dot_product") else (-2, -3)

    def extents(args: Any, named: Mapping[str, Any]) -> tuple[int, ...]:
        query, key = named["query"], named["key"]
        batch, lengths = query.shape[0], (query.shape[length_axis], key.shape[length_axis])
        offsets = _first(named, "cum_seq_q", "cu_seqlens_q")
        if offsets is not None and length_axis == -3:
            longest = (_first(named, "max_q", "max_seqlen_q"), _first(named, "max_k", "max_seqlen_k"))
            batch, lengths = offsets.shape[0] - 1, longest
        is_causal = bool(named.get("is_causal") or named.get("custom_mask_type"))
        return (batch, query.shape[heads_axis], key.shape[heads_axis], *lengths, query.shape[-1], int(is_causal))

    return extents


def _first(named: Mapping[str, Any], *names: str) -> Any:
    return next((named[name] for name in names if named.get(name) is not None), None)
