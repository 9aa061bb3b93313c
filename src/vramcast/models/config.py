"""A model's architecture as data: the fields transformers builds it from, and its dimensions."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

ModelSource = Literal["preset", "file", "hub"]


class Dimensions(BaseModel):
    """Sizes of a decoder-only transformer, in Hugging Face spelling, counts of elements."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    """Equal to the attention heads (MHA), a divisor of them (GQA) or 1 (MQA)."""
    head_dim: int
    intermediate_size: int
    """Width of the feed-forward network, of one expert where there are several."""
    vocab_size: int
    context_length: int
    """Largest sequence the model was made for (`n_positions`, `max_position_embeddings`, `block_size`)."""
    tie_word_embeddings: bool
    """The head shares the token embedding's storage, which is counted once."""
    sliding_window: int | None = None
    """Tokens each one attends to in the sliding layers; None where every layer sees all."""
    num_experts: int | None = None
    num_experts_per_token: int | None = None


class ModelConfig(BaseModel):
    """An architecture with where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: ModelSource
    origin: str
    """Address or path that was read."""
    model_type: str
    fields: dict[str, Any]
    """Keyword arguments of the model's configuration class, `model_type` included; read-only by agreement."""
    dimensions: Dimensions
    parameters: int | None = None
    """Trainable parameters, tied weights once; None where only a build would tell."""
    has_learned_positions: bool = False
    """Positions are a table of `context_length` rows: a longer sequence would read past its end."""
    assumptions: tuple[str, ...] = ()
    """What was filled in or left out while reading, to be shown with a forecast."""
