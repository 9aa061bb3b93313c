"""The backward pass of an embedding."""

from typing import Any

from vramcast.virtual_cuda.scratch.registry import takes_scratch


@takes_scratch("embedding_dense_backward", "embedding_backward")
def _embedding_backward(args: Any) -> dict[str, int | tuple[int, ...]]:
    grad_output, indices, num_weights = args[:3]
    return {"num_tokens": indices.numel(), "vocab_size": num_weights, "hidden_size": grad_output.shape[-1]}
