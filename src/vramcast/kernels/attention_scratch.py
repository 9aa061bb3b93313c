"""Scratch buffers of the fused attention kernels.

Shapes: B batch, H query heads, K key and value heads, T queries, S keys, D head dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vramcast.kernels.arithmetic import round_up, where
from vramcast.kernels.scratch_registry import scratch_rule

if TYPE_CHECKING:
    from vramcast.kernels.arithmetic import Integers

FP32_BYTES = 4
FLASH_QUERY_BLOCK = 128
FLASH_HEAD_BLOCK = 32
FLASH_WIDE_HEAD = 192
FLASH_MAX_HEAD = 256
EFFICIENT_BLOCK = 64


@scratch_rule("flash_attention_backward")
def flash_backward_buffers(
    *,
    batch_size: Integers,
    query_length: Integers,
    key_length: Integers,
    num_heads: Integers,
    num_key_value_heads: Integers,
    head_dim: Integers,
    dtype_bytes: Integers,
    copies_grad_out: Integers,
) -> tuple[Integers, ...]:
    """A contiguous copy of dO, softmax sums, the fp32 accumulator of dQ, and dK and dV for every query head.

    Shapes: dO [B, T, H, D] where `copies_grad_out` is 1 (its strides are not those of that shape) and nothing where it is 0; softmax_d
    fp32 [B, H, T'], dq_accum fp32 [B, T', H, D']; dK and dV expanded [B, S, H, D] in the input's dtype where heads are grouped (K != H).
    T' = T rounded up to 128 and D' = D rounded up to 32 (256 above 192).

    Source: `mha_bwd` in `aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp`;
    `_scaled_dot_product_flash_attention_backward_cuda` in `aten/src/ATen/native/transformers/cuda/attention_backward.cu`.
    """
    rounded_length = round_up(query_length, FLASH_QUERY_BLOCK)
    rounded_head = where(head_dim <= FLASH_WIDE_HEAD, round_up(head_dim, FLASH_HEAD_BLOCK), FLASH_MAX_HEAD)
    is_grouped = num_key_value_heads != num_heads
    expanded = where(is_grouped, batch_size * key_length * num_heads * head_dim * dtype_bytes, 0)
    return (
        copies_grad_out * batch_size * query_length * num_heads * head_dim * dtype_bytes,
        FP32_BYTES * batch_size * num_heads * rounded_length,
        FP32_BYTES * batch_size * rounded_length * num_heads * rounded_head,
        expanded,
        expanded,
    )


@scratch_rule("efficient_attention_backward")
def efficient_backward_buffers(
    *,
    batch_size: Integers,
    query_length: Integers,
    num_heads: Integers,
    head_dim: Integers,
    dtype_bytes: Integers,
) -> tuple[Integers, ...]:
    """The product dO * O (fp32 alone), its row sums, and the accumulator of dQ (half precision alone).

    Half precision: delta fp32 [B, H, T] and an fp32 accumulator of dQ in tiles of 64 x 64. fp32 needs no accumulator, but computes delta
    outside the kernel: the product dO * O, fp32 [B, T, H, D], lives beside it.

    Source: `_efficient_attention_backward` in `attention_backward.cu` and `workspace_size` in `mem_eff_attention/kernel_backward.h`.
    """
    is_fp32 = dtype_bytes == FP32_BYTES
    tiles = round_up(query_length, EFFICIENT_BLOCK) * round_up(head_dim, EFFICIENT_BLOCK)
    return (
        where(is_fp32, FP32_BYTES * batch_size * query_length * num_heads * head_dim, 0),
        FP32_BYTES * batch_size * num_heads * query_length,
        where(is_fp32, 0, FP32_BYTES * batch_size * num_heads * tiles),
    )


@scratch_rule("cudnn_attention_backward")
def cudnn_backward_buffers(
    *, batch_size: Integers, query_length: Integers, num_heads: Integers, head_dim: Integers
) -> tuple[Integers, ...]:
    """Workspace of cuDNN's backward graph, taken as its fp32 accumulator of dQ and the row sums.

    The true size is what `graph.get_workspace_size()` answers on the card; it is not documented.

    Source: `aten/src/ATen/native/cudnn/MHA.cpp` (where it is allocated).
    """
    return (FP32_BYTES * batch_size * num_heads * query_length * (head_dim + 1),)
