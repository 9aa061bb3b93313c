"""Scratch buffers of the multi-tensor (foreach) kernels."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from vramcast.kernels.arithmetic import ceil_divide, maximum
from vramcast.kernels.scratch_registry import scratch_rule

if TYPE_CHECKING:
    from vramcast.kernels.arithmetic import Integers

CHUNK_ELEMENTS = 65_536
FP32_BYTES = 4


@scratch_rule("foreach_norm")
def foreach_norm_buffers(
    *, num_tensors: Integers, tensor_elements: Integers | tuple[Integers, ...]
) -> tuple[Integers, ...]:
    """One fp32 partial result per chunk of 65,536 elements, for every tensor as many as the largest needs.

    `tensor_elements` holds each size that occurs among the tensors; which is the largest may change with the dimensions of a model.

    Source: `foreach_tensor_norm_cuda` in `aten/src/ATen/native/cuda/ForeachReduceOp.cu`.
    """
    sizes = tensor_elements if isinstance(tensor_elements, tuple) else (tensor_elements,)
    largest = reduce(maximum, sizes)
    return (FP32_BYTES * num_tensors * ceil_divide(largest, CHUNK_ELEMENTS),)
