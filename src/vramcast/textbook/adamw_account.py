"""The account of one AdamW step: every part of a pre-norm transformer with RMSNorm and a three-matrix feed-forward.

A part's parameters count four times: the parameter, its gradient, and the two states of AdamW.
"""

from dataclasses import dataclass
from functools import cache

from vramcast.textbook.document import Document, read_document

VALUES_PER_PARAMETER = 4


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the account, in values."""

    name: str
    activations: int
    parameters: int

    @property
    def total(self) -> int:
        """Activations, parameters, gradients and optimizer states."""
        return self.activations + VALUES_PER_PARAMETER * self.parameters


def block_parts(
    *, batch_size: int, sequence_length: int, hidden_size: int, num_attention_heads: int
) -> tuple[Part, ...]:
    """The parts of one transformer block, with d_ff = 4 d_model as the account has it."""
    tokens = batch_size * sequence_length * hidden_size
    scores = batch_size * num_attention_heads * sequence_length**2
    matrix = hidden_size**2
    return (
        Part("RMSNorm (x2)", 2 * tokens, 2 * hidden_size),
        Part("QKV projections", tokens, 3 * matrix),
        Part("Q^T K matmul", scores, 0),
        Part("softmax", scores, 0),
        Part("weighted sum of V", tokens, 0),
        Part("output projection", tokens, matrix),
        Part("feed-forward W1 and W3", 8 * tokens, 8 * matrix),
        Part("feed-forward SiLU", 4 * tokens, 0),
        Part("feed-forward W2", tokens, 4 * matrix),
    )


def final_parts(*, batch_size: int, sequence_length: int, hidden_size: int, vocab_size: int) -> tuple[Part, ...]:
    """What follows the blocks: the last norm and the output embedding; the cross entropy is one number."""
    tokens = batch_size * sequence_length
    return (
        Part("final RMSNorm", tokens * hidden_size, hidden_size),
        Part("output embedding", tokens * vocab_size, vocab_size * hidden_size),
    )


def training_values(
    *,
    batch_size: int,
    sequence_length: int,
    num_hidden_layers: int,
    hidden_size: int,
    num_attention_heads: int,
    vocab_size: int,
) -> int:
    """Values of one step: num_layers x block + final norm + output embedding."""
    block = block_parts(
        batch_size=batch_size,
        sequence_length=sequence_length,
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
    )
    final = final_parts(
        batch_size=batch_size, sequence_length=sequence_length, hidden_size=hidden_size, vocab_size=vocab_size
    )
    return num_hidden_layers * sum(part.total for part in block) + sum(part.total for part in final)


def fixed_values(
    *, sequence_length: int, num_hidden_layers: int, hidden_size: int, num_attention_heads: int, vocab_size: int
) -> int:
    """Values that no batch adds to: parameters, gradients and optimizer states."""
    return training_values(
        batch_size=0,
        sequence_length=sequence_length,
        num_hidden_layers=num_hidden_layers,
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
        vocab_size=vocab_size,
    )


def values_per_sequence(
    *, sequence_length: int, num_hidden_layers: int, hidden_size: int, num_attention_heads: int, vocab_size: int
) -> int:
    """Values that each sequence of the batch adds: its activations."""
    sizes = {
        "sequence_length": sequence_length,
        "num_hidden_layers": num_hidden_layers,
        "hidden_size": hidden_size,
        "num_attention_heads": num_attention_heads,
        "vocab_size": vocab_size,
    }
    return training_values(batch_size=1, **sizes) - fixed_values(**sizes)


def training_bytes(
    *,
    batch_size: int,
    sequence_length: int,
    num_hidden_layers: int,
    hidden_size: int,
    num_attention_heads: int,
    vocab_size: int,
    bytes_per_value: int,
) -> int:
    """Bytes of every value; the account has four for each."""
    return bytes_per_value * training_values(
        batch_size=batch_size,
        sequence_length=sequence_length,
        num_hidden_layers=num_hidden_layers,
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
        vocab_size=vocab_size,
    )


def largest_batch(
    *,
    memory_bytes: int,
    sequence_length: int,
    num_hidden_layers: int,
    hidden_size: int,
    num_attention_heads: int,
    vocab_size: int,
    bytes_per_value: int,
) -> float:
    """Where fixed and per-sequence bytes fill a memory; the account rounds it down."""
    sizes = {
        "sequence_length": sequence_length,
        "num_hidden_layers": num_hidden_layers,
        "hidden_size": hidden_size,
        "num_attention_heads": num_attention_heads,
        "vocab_size": vocab_size,
    }
    free = memory_bytes - bytes_per_value * fixed_values(**sizes)
    return free / (bytes_per_value * values_per_sequence(**sizes))


def forward_flops(*, batch_size: int, sequence_length: int, hidden_size: int, intermediate_size: int) -> int:
    """2 B T d (4 d + 2 T + 3 d_ff): matrix products of one block; the account has no factor for the layers."""
    width = 4 * hidden_size + 2 * sequence_length + 3 * intermediate_size
    return 2 * batch_size * sequence_length * hidden_size * width


def step_flops(*, batch_size: int, sequence_length: int, hidden_size: int, intermediate_size: int) -> int:
    """Forward, and twice that for backward."""
    return 3 * forward_flops(
        batch_size=batch_size,
        sequence_length=sequence_length,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
    )


def training_flops(
    *, num_steps: int, batch_size: int, sequence_length: int, hidden_size: int, intermediate_size: int
) -> int:
    """FLOPs of all steps."""
    return num_steps * step_flops(
        batch_size=batch_size,
        sequence_length=sequence_length,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
    )


def training_seconds(
    *,
    num_steps: int,
    batch_size: int,
    sequence_length: int,
    hidden_size: int,
    intermediate_size: int,
    flops_per_second: int,
) -> float:
    """Time of all steps at a sustained rate."""
    flops = training_flops(
        num_steps=num_steps,
        batch_size=batch_size,
        sequence_length=sequence_length,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
    )
    return flops / flops_per_second


@cache
def adamw_account() -> Document:
    """The document with its figures."""
    return read_document(
        "adamw_account",
        (
            training_values,
            fixed_values,
            values_per_sequence,
            training_bytes,
            largest_batch,
            forward_flops,
            step_flops,
            training_flops,
            training_seconds,
        ),
    )
