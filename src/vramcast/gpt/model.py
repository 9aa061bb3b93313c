"""The reference GPT: learned positions, pre-norm blocks of attention and a GELU MLP of width 4E, LayerNorm, no biases, untied head.

Shapes: B batch, T tokens, E embedding (n_embd), H heads, D = E / H, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from vramcast.gpt.configuration import ReferenceGPTConfig


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out: query, key, value (B, H, T, D) -> output (B, T, H, D) and weights (B, H, T, T)."""
    weights = torch.matmul(query, key.transpose(-1, -2)) * scaling  # (B, H, T, T)
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2), weights  # (B, T, H, D)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    is_causal = True

    def __init__(self, config: ReferenceGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.head_dim = config.n_embd // config.n_head
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, attention_mask: torch.Tensor | None, past_key_values: Any = None
    ) -> torch.Tensor:
        """(B, T, E) -> (B, T, E)."""
        shape = (*x.shape[:-1], -1, self.head_dim)
        query, key, value = (
            part.view(shape).transpose(1, 2) for part in self.qkv_proj(x).chunk(3, dim=-1)
        )  # (B, H, T, D)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        dropout = self.dropout.p if self.training else 0.0
        out, _ = attend(
            self, query, key, value, attention_mask, scaling=self.head_dim**-0.5, dropout=dropout
        )  # (B, T, H, D)
        projected: torch.Tensor = self.dropout(self.out_proj(out.reshape(x.shape)))
        return projected


class MLP(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, config: ReferenceGPTConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.down_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, E) -> (B, T, E)."""
        projected: torch.Tensor = self.dropout(self.down_proj(F.gelu(self.up_proj(x))))  # (B, T, 4E) inside
        return projected


class Block(GradientCheckpointingLayer):  # type: ignore[misc]
    """Attention and MLP, each behind a norm and around a residual."""

    def __init__(self, config: ReferenceGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.attention = Attention(config, layer_idx)
        self.mlp_norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.mlp = MLP(config)

    def forward(
        self, x: torch.Tensor, attention_mask: torch.Tensor | None, past_key_values: Any = None
    ) -> torch.Tensor:
        """(B, T, E) -> (B, T, E)."""
        x = x + self.attention(self.attention_norm(x), attention_mask, past_key_values)
        x = x + self.mlp(self.mlp_norm(x))
        return x


class ReferenceGPTForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The reference GPT with its language-model head."""

    config_class = ReferenceGPTConfig
    base_model_prefix = "gpt"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ("Block",)
    # For configurations that ask for it (tie_word_embeddings).
    _tied_weights_keys = {"lm_head.weight": "token_embedding.weight"}  # noqa: RUF012  (the base class declares it so)

    def __init__(self, config: ReferenceGPTConfig) -> None:
        super().__init__(config)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer_idx) for layer_idx in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.token_embedding

    def get_output_embeddings(self) -> nn.Module:
        """The language-model head."""
        return self.lm_head

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """input_ids (B, T) -> logits (B, T, V), and the loss where labels (B, T) are given (shifted inside)."""
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            position_ids = (torch.arange(input_ids.shape[1], device=input_ids.device) + past).unsqueeze(0)  # (1, T)
        x = self.dropout(self.token_embedding(input_ids) + self.position_embedding(position_ids))  # (B, T, E)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=x,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        for block in self.blocks:
            x = block(x, mask, past_key_values if use_cache else None)
        x = self.norm(x)
        logits = self.lm_head(x[:, -logits_to_keep:] if logits_to_keep else x)  # (B, T, V)
        loss = (
            None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        )
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values if use_cache else None)


def register() -> None:
    """Make `AutoConfig` and `AutoModelForCausalLM` know the reference GPT; a second call does nothing."""
    AutoConfig.register(ReferenceGPTConfig.model_type, ReferenceGPTConfig, exist_ok=True)
    AutoModelForCausalLM.register(ReferenceGPTConfig, ReferenceGPTForCausalLM, exist_ok=True)
