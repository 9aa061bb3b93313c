"""Scratch buffers of the multi-tensor (foreach) kernels."""

from typing import Any

from vramcast.virtual_cuda.scratch.registry import scratch_rule

CHUNK_ELEMENTS = 65_536
FP32_BYTES = 4


def foreach_norm_buffers(*, num_tensors: int, largest_elements: int) -> tuple[int, ...]:
    """One fp32 partial result per chunk of 65,536 elements, for every tensor as many as the largest needs.

    Source: `foreach_tensor_norm_cuda` in `aten/src/ATen/native/cuda/ForeachReduceOp.cu`.
    """
    chunks = -(-largest_elements // CHUNK_ELEMENTS)
    return (FP32_BYTES * num_tensors * chunks,)


@scratch_rule("_foreach_norm")
def _foreach_norm(args: Any) -> tuple[int, ...]:
    tensors = args[0]
    return foreach_norm_buffers(num_tensors=len(tensors), largest_elements=max((t.numel() for t in tensors), default=0))
