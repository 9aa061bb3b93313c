"""Numbers for the letters of a tape: from a model's dimensions and a job."""

from __future__ import annotations

from vramcast.hardware import GPU, cublas_workspace_bytes
from vramcast.models import ModelConfig


def model_values(config: ModelConfig) -> dict[str, int]:
    """Values of the letters that the model alone decides.

    `H` is given where every head has its own key and value, `K` and `G` where they are shared: a tape uses either.
    """
    sizes = config.dimensions
    heads, groups = sizes.num_attention_heads, sizes.num_key_value_heads
    values = {
        "L": sizes.num_hidden_layers,
        "E": sizes.hidden_size,
        "H": heads,
        "K": groups,
        "G": heads // groups,
        "D": sizes.head_dim,
        "F": sizes.intermediate_size,
        "V": sizes.vocab_size,
        "P": sizes.context_length,
    }
    for letter, size in (("W", sizes.sliding_window), ("X", sizes.num_experts), ("C", sizes.num_experts_per_token)):
        if size is not None:
            values[letter] = size
    return values


def gpu_values(gpu: GPU, torch_version: str) -> dict[str, int]:
    """Values of the letters that the GPU decides, with the libraries of a PyTorch release."""
    workspace = cublas_workspace_bytes(gpu.kernel_capability, torch_version)
    return {"U": workspace.workspace_bytes, "m": gpu.kernel_multiprocessors}
