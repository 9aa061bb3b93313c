"""Configurations of this package's own GPT: the short form people write by hand, and its number of parameters."""

from typing import Any

from vramcast.errors import ModelConfigError
from vramcast.models.config import Dimensions
from vramcast.models.dimensions import read_flag, read_size
from vramcast.models.families import GPT, upper_limit

# GPT-2's 50257 tokens rounded up to a multiple of 64, as GPT-2-like trainers do.
_DEFAULT_VOCAB_SIZE = 50304
_TITLES = {"name", "description"}
_MARKS = ("n_layer", "n_head", "n_embd", "block_size")


def looks_like_gpt(fields: dict[str, Any]) -> bool:
    """A config without `model_type` in the short form: `n_layer`, `n_head`, `n_embd`, `block_size`."""
    return "model_type" not in fields and "block_size" in fields and any(mark in fields for mark in _MARKS[:3])


def complete_gpt_fields(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields the model is built from, defaults filled in, and a note on each default that changes its size.

    Other keys are dropped, and named in a note unless they are only a title.

    Raises:
        ModelConfigError: a flag, the dropout or the batch size is not usable.
    """
    own: dict[str, Any] = {"model_type": GPT} | {mark: fields[mark] for mark in _MARKS if mark in fields}
    own["vocab_size"] = fields.get("vocab_size", _DEFAULT_VOCAB_SIZE)
    own["bias"] = read_flag(fields, "bias", False)
    own["dropout"] = _dropout(fields.get("dropout", 0.0))
    own["tie_word_embeddings"] = read_flag(fields, "tie_word_embeddings", False)
    if fields.get("batch_size") is not None:
        own["batch_size"] = read_size("batch_size", fields["batch_size"], upper_limit("batch_size"))
    notes = [] if "vocab_size" in fields else [f"vocab_size is not given; {_DEFAULT_VOCAB_SIZE} is assumed"]
    ignored = sorted(fields.keys() - own.keys() - _TITLES)
    if ignored:
        notes.append(f"keys of the configuration that have no effect: {', '.join(ignored)}")
    return own, tuple(notes)


def gpt_parameters(dimensions: Dimensions, bias: bool) -> int:
    """Parameters of the GPT, tied embeddings counted once.

    Formula without biases: V E (twice if untied) + T E + L (12 E^2 + 2 E) + E, for token and position embeddings, in
    each layer attention (4 E^2), feed-forward (8 E^2) and two LayerNorm weights, and the last LayerNorm.
    Biases add 11 E a layer (QKV 3, projection 1, feed-forward 5, norms 2) and E at the end; the head has none.
    """
    embedding, layers = dimensions.hidden_size, dimensions.num_hidden_layers
    tables = (1 if dimensions.tie_word_embeddings else 2) * dimensions.vocab_size + dimensions.context_length
    layer = 12 * embedding**2 + 2 * embedding + (11 * embedding if bias else 0)
    last_norm = (2 if bias else 1) * embedding
    return tables * embedding + layers * layer + last_norm


def _dropout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelConfigError("dropout", value, "must be a probability from 0 up to, not including, 1")
    return float(value)
