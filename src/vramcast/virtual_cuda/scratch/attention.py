"""The fused attention kernels; query [B, H, T, D], key [B, K, S, D]."""

from typing import Any

from vramcast.virtual_cuda.scratch.registry import takes_scratch

RESULTS_BEFORE_SCRATCH = 2
"""Of flash attention: output and log-sum-exp; the state of the random generator comes after."""


@takes_scratch(
    "_scaled_dot_product_flash_attention",
    "flash_attention_forward",
    results_before=RESULTS_BEFORE_SCRATCH,
    comes_and_goes=True,
)
def _flash_forward(args: Any) -> dict[str, int | tuple[int, ...]] | None:
    """With dropout keys are never split.

    For one query (a decode step) the number of parts changes with every block of keys that the cache grows by, so that no two blocks of
    steps would repeat. All parts together take a small share of the layer's own cache, less than the old keys or values that were
    freed just before, so no peak depends on them: they are left out.
    """
    query, key = args[:2]
    dropout = args[3] if len(args) > 3 else 0.0
    if dropout > 0 or query.shape[2] == 1:
        return None
    return {**_query_arguments(query), "key_length": key.shape[2]}


@takes_scratch("_scaled_dot_product_flash_attention_backward", "flash_attention_backward")
def _flash_backward(args: Any) -> dict[str, int | tuple[int, ...]]:
    grad_out, query, key = args[:3]
    return {
        **_query_arguments(query),
        "key_length": key.shape[2],
        "num_key_value_heads": key.shape[1],
        "dtype_bytes": query.element_size(),
        "copies_grad_out": int(not grad_out.transpose(1, 2).is_contiguous()),
    }


@takes_scratch("_scaled_dot_product_efficient_attention_backward", "efficient_attention_backward")
def _efficient_backward(args: Any) -> dict[str, int | tuple[int, ...]]:
    query = args[1]
    return {**_query_arguments(query), "dtype_bytes": query.element_size()}


@takes_scratch("_scaled_dot_product_cudnn_attention_backward", "cudnn_attention_backward")
def _cudnn_backward(args: Any) -> dict[str, int | tuple[int, ...]]:
    return _query_arguments(args[1])


def _query_arguments(query: Any) -> dict[str, int | tuple[int, ...]]:
    batch_size, num_heads, query_length, head_dim = query.shape
    return {"batch_size": batch_size, "num_heads": num_heads, "query_length": query_length, "head_dim": head_dim}
