"""Configuration of the reference GPT, in the spelling of its JSON files."""

from typing import Any

from transformers import PreTrainedConfig


class ReferenceGPTConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a reference GPT; `attribute_map` gives them transformers' names as well."""

    model_type = "vramcast_gpt"
    keys_to_ignore_at_inference = ("past_key_values",)
    attribute_map = {  # noqa: RUF012  (the base class declares it so)
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "block_size",
    }

    def __init__(
        self,
        n_layer: int = 6,
        n_head: int = 6,
        n_embd: int = 384,
        block_size: int = 256,
        vocab_size: int = 50304,
        bias: bool = False,
        dropout: float = 0.2,
        layer_norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.n_layer, self.n_head, self.n_embd = n_layer, n_head, n_embd
        self.block_size, self.vocab_size = block_size, vocab_size
        self.bias, self.dropout = bias, dropout
        self.layer_norm_epsilon, self.initializer_range = layer_norm_epsilon, initializer_range
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
