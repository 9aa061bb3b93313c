"""Formulas of "What are the memory requirements for GPT-2": one product for each of four parts, and their sum."""

from functools import cache

from vramcast.textbook.document import Document, read_document


def parameter_bytes(*, num_parameters: int, bytes_per_value: int) -> int:
    """Number of parameters x size of each."""
    return num_parameters * bytes_per_value


def activation_bytes(
    *, batch_size: int, sequence_length: int, hidden_size: int, num_hidden_layers: int, bytes_per_value: int
) -> int:
    """One tensor [B, T, E] for each layer."""
    return batch_size * sequence_length * hidden_size * num_hidden_layers * bytes_per_value


def attention_weight_bytes(
    *, batch_size: int, num_attention_heads: int, sequence_length: int, bytes_per_value: int
) -> int:
    """One tensor [B, H, T, T]; the document has no factor for the layers."""
    return batch_size * num_attention_heads * sequence_length**2 * bytes_per_value


def optimizer_state_bytes(*, num_parameters: int, bytes_per_value: int) -> int:
    """Two values for each parameter (the document's text; its example counts one)."""
    return 2 * num_parameters * bytes_per_value


def training_bytes(
    *,
    num_parameters: int,
    batch_size: int,
    sequence_length: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    bytes_per_value: int,
) -> int:
    """Parameters + activations + attention weights + optimizer states."""
    values = (3 * num_parameters) + batch_size * sequence_length * (
        hidden_size * num_hidden_layers + num_attention_heads * sequence_length
    )
    return values * bytes_per_value


def inference_bytes(
    *,
    num_parameters: int,
    batch_size: int,
    sequence_length: int,
    hidden_size: int,
    num_hidden_layers: int,
    bytes_per_value: int,
) -> int:
    """Parameters + activations."""
    return (num_parameters + batch_size * sequence_length * hidden_size * num_hidden_layers) * bytes_per_value


@cache
def gpt2_requirements() -> Document:
    """The document with its figures."""
    return read_document(
        "gpt2_requirements",
        (
            parameter_bytes,
            activation_bytes,
            attention_weight_bytes,
            optimizer_state_bytes,
            training_bytes,
            inference_bytes,
        ),
    )
