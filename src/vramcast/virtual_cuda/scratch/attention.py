"""Scratch buffers of the fused attention kernels."""

from typing import Any

from vramcast.virtual_cuda.scratch.registry import round_up, scratch_rule

FP32_BYTES = 4
FLASH_QUERY_BLOCK = 128
EFFICIENT_BLOCK = 64


def flash_backward_buffers(
    *,
    batch_size: int,
    query_length: int,
    key_length: int,
    num_heads: int,
    num_key_value_heads: int,
    head_dim: int,
    dtype_bytes: int,
) -> tuple[int, ...]:
    """Softmax sums, the fp32 accumulator of dQ, and dK/dV for every query head where heads are grouped.

    Shapes: softmax_d fp32 [B, H, T'], dq_accum fp32 [B, T', H, D'], dk/dv expanded [B, S, H, D] in the input's dtype, with T' = T rounded
    up to 128 and D' = D rounded up to 32 (256 above 192).

    Source: `mha_bwd` in `aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp`.
    """
    rounded_length = round_up(query_length, FLASH_QUERY_BLOCK)
    rounded_head = round_up(head_dim, 32) if head_dim <= 192 else 256
    buffers = [
        FP32_BYTES * batch_size * num_heads * rounded_length,
        FP32_BYTES * batch_size * rounded_length * num_heads * rounded_head,
    ]
    if num_key_value_heads != num_heads:
        buffers += [batch_size * key_length * num_heads * head_dim * dtype_bytes] * 2
    return tuple(buffers)


def efficient_backward_buffers(
    *, batch_size: int, query_length: int, num_heads: int, head_dim: int, dtype_bytes: int
) -> tuple[int, ...]:
    """Row sums of dO * O, and what it takes to accumulate dQ.

    Half precision: delta fp32 [B, H, T] and an fp32 accumulator of dQ in tiles of 64 x 64. fp32 needs no accumulator, but computes delta
    outside the kernel: the product dO * O, fp32 [B, T, H, D], lives beside it.

    Source: `_efficient_attention_backward` in `attention_backward.cu` and `workspace_size` in `mem_eff_attention/kernel_backward.h`.
    """
    delta = FP32_BYTES * batch_size * num_heads * query_length
    if dtype_bytes == FP32_BYTES:
        return (FP32_BYTES * batch_size * query_length * num_heads * head_dim, delta)
    tiles = round_up(query_length, EFFICIENT_BLOCK) * round_up(head_dim, EFFICIENT_BLOCK)
    return (delta, FP32_BYTES * batch_size * num_heads * tiles)


def cudnn_backward_buffers(*, batch_size: int, query_length: int, num_heads: int, head_dim: int) -> tuple[int, ...]:
    """Workspace of cuDNN's backward graph, taken as its fp32 accumulator of dQ and the row sums.

    The true size is what `graph.get_workspace_size()` answers on the card; it is not documented.

    Source: `aten/src/ATen/native/cudnn/MHA.cpp` (where it is allocated).
    """
    return (FP32_BYTES * batch_size * num_heads * query_length * (head_dim + 1),)


@scratch_rule("_scaled_dot_product_flash_attention_backward")
def _flash_backward(args: Any) -> tuple[int, ...]:
    grad_out, query, key = args[:3]
    batch_size, num_heads, query_length, head_dim = query.shape
    copies = () if grad_out.transpose(1, 2).is_contiguous() else (grad_out.numel() * grad_out.element_size(),)
    return copies + flash_backward_buffers(
        batch_size=batch_size,
        query_length=query_length,
        key_length=key.shape[2],
        num_heads=num_heads,
        num_key_value_heads=key.shape[1],
        head_dim=head_dim,
        dtype_bytes=query.element_size(),
    )


@scratch_rule("_scaled_dot_product_efficient_attention_backward")
def _efficient_backward(args: Any) -> tuple[int, ...]:
    batch_size, num_heads, query_length, head_dim = args[1].shape
    return efficient_backward_buffers(
        batch_size=batch_size,
        query_length=query_length,
        num_heads=num_heads,
        head_dim=head_dim,
        dtype_bytes=args[1].element_size(),
    )


@scratch_rule("_scaled_dot_product_cudnn_attention_backward")
def _cudnn_backward(args: Any) -> tuple[int, ...]:
    batch_size, num_heads, query_length, head_dim = args[1].shape
    return cudnn_backward_buffers(
        batch_size=batch_size, query_length=query_length, num_heads=num_heads, head_dim=head_dim
    )
