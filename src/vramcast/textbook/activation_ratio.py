"""Formulas of a Cross Validated answer: activations against the model, and why long sequences dominate."""

from functools import cache

from vramcast.textbook.document import Document, read_document


def model_values(*, num_hidden_layers: int, num_attention_heads: int, head_dim: int) -> int:
    """4 L C^2 with C = N D: query, key and value, and a feed-forward of one C x C matrix; no norms, no biases."""
    return 4 * num_hidden_layers * (num_attention_heads * head_dim) ** 2


def activation_values(
    *, batch_size: int, sequence_length: int, num_hidden_layers: int, num_attention_heads: int, head_dim: int
) -> int:
    """B N L T (T + 2 D): the scores, the attention's output and the feed-forward's output of each layer."""
    per_layer = batch_size * num_attention_heads * sequence_length * (sequence_length + 2 * head_dim)
    return num_hidden_layers * per_layer


def activation_to_model_ratio(
    *, batch_size: int, sequence_length: int, num_attention_heads: int, head_dim: int
) -> float:
    """B T (T + 2 D) / (4 N D^2): the quotient of the two, in which the layers cancel."""
    return batch_size * sequence_length * (sequence_length + 2 * head_dim) / (4 * num_attention_heads * head_dim**2)


def long_sequence_ratio(*, batch_size: int, sequence_length: int, num_attention_heads: int, head_dim: int) -> float:
    """B T^2 / (4 N D^2): the same for T much larger than D."""
    return batch_size * sequence_length**2 / (4 * num_attention_heads * head_dim**2)


@cache
def activation_ratio() -> Document:
    """The document with its figures."""
    return read_document(
        "activation_ratio", (model_values, activation_values, activation_to_model_ratio, long_sequence_ratio)
    )
