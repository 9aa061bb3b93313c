"""Scratch buffers of the backward of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vramcast.kernels.arithmetic import minimum, where
from vramcast.kernels.scratch_registry import scratch_rule

if TYPE_CHECKING:
    from vramcast.kernels.arithmetic import Integers

INDEX_BYTES = 8
FP32_BYTES = 4
SMALL_PATH_TOKENS = 3072
TOKENS_PER_PARTIAL_SEGMENT = 10


@scratch_rule("embedding_backward")
def embedding_backward_buffers(
    *, num_tokens: Integers, vocab_size: Integers, hidden_size: Integers
) -> tuple[Integers, ...]:
    """Sorted token ids, cub's sorting space, segment offsets, and fp32 partial sums per segment.

    Up to 3072 tokens a kernel adds rows directly and needs nothing: all are 0. Above, tokens are sorted; each run of equal tokens is cut
    into segments of 10, and one fp32 row [D] per segment is summed first. At most min(N, V) runs and N/10 + min(N, V) segments exist;
    PyTorch sizes the buffers for that bound.

    Source: `embedding_dense_backward_cuda` in `aten/src/ATen/native/cuda/Embedding.cu` and `EmbeddingBackwardKernel.cu`.
    """
    sorted_tokens = where(num_tokens <= SMALL_PATH_TOKENS, 0, num_tokens)
    runs = minimum(sorted_tokens, vocab_size)
    segments = sorted_tokens // TOKENS_PER_PARTIAL_SEGMENT + runs
    per_token = INDEX_BYTES * sorted_tokens
    return (
        per_token,  # arange of positions
        per_token,  # sorted tokens
        per_token,  # their original positions
        2 * per_token,  # double buffer of cub's radix sort
        per_token,  # segment offsets
        INDEX_BYTES * runs,  # segments per run
        INDEX_BYTES * runs,  # their exclusive sum
        INDEX_BYTES * segments,  # offsets of partial segments
        FP32_BYTES * hidden_size * segments,  # partial sums
    )
