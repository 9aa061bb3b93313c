"""Formulas of "Transformer Memory Requirements" (2022): a calculator for training GPT-2, checked by its author on a real GPU."""

from functools import cache

from vramcast.textbook.document import Document, read_document


def model_parameters(*, num_hidden_layers: int, hidden_size: int, vocab_size: int) -> int:
    """Embedding, four attention matrices, two feed-forward matrices and two norms a layer; no biases, no positions."""
    per_layer = 4 * hidden_size**2 + 2 * hidden_size * 4 * hidden_size + 4 * hidden_size
    return vocab_size * hidden_size + num_hidden_layers * per_layer


def activation_values(
    *,
    batch_size: int,
    sequence_length: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    hidden_size: int,
    vocab_size: int,
) -> int:
    """One-hot vectors in and out, and in each layer 14 E values and one row of attention weights a head for each token."""
    per_layer = 14 * hidden_size + num_attention_heads * sequence_length
    return batch_size * sequence_length * (2 * vocab_size + num_hidden_layers * per_layer)


def training_bytes(
    *,
    batch_size: int,
    sequence_length: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    hidden_size: int,
    vocab_size: int,
    bytes_per_value: int,
) -> int:
    """4 x parameters + 2 x activations: backward is counted as three more of the first and one more of the second."""
    parameters = model_parameters(num_hidden_layers=num_hidden_layers, hidden_size=hidden_size, vocab_size=vocab_size)
    activations = activation_values(
        batch_size=batch_size,
        sequence_length=sequence_length,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
    )
    return (4 * parameters + 2 * activations) * bytes_per_value


@cache
def transformer_memory_calculator() -> Document:
    """The document with its figures."""
    return read_document("transformer_memory_calculator", (model_parameters, activation_values, training_bytes))
