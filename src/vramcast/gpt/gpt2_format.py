"""A reference GPT written as a GPT-2 and read back, so that its folder loads wherever transformers is, without vramcast.

GPT-2 is the same function with biases that here are zero, and keeps its linear weights transposed (`Conv1D`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import GPT2Config

from vramcast.gpt.configuration import ReferenceGPTConfig

_TOP = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "norm": "transformer.ln_f",
    "lm_head": "lm_head",
}
_BLOCK = {
    "attention_norm": "ln_1",
    "attention.qkv_proj": "attn.c_attn",
    "attention.out_proj": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
_WITHOUT_BIAS = ("token_embedding", "position_embedding", "lm_head")


def gpt2_config(config: ReferenceGPTConfig) -> GPT2Config:
    """The configuration of the GPT-2 that computes what this reference GPT computes."""
    return GPT2Config(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_positions=config.block_size,
        vocab_size=config.vocab_size,
        activation_function="gelu",
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        layer_norm_epsilon=config.layer_norm_epsilon,
        initializer_range=config.initializer_range,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        architectures=["GPT2LMHeadModel"],
    )


def to_gpt2(weights: Mapping[str, torch.Tensor], config: ReferenceGPTConfig) -> dict[str, torch.Tensor]:
    """Weights of a reference GPT under GPT-2's names and in its layout, biases of zero added where there are none."""
    written = {}
    for own, other in _module_names(config).items():
        if own == "lm_head" and config.tie_word_embeddings:
            continue
        weight = weights[f"{own}.weight"]
        written[f"{other}.weight"] = weight.t().contiguous() if _is_transposed(own) else weight.contiguous()
        if own not in _WITHOUT_BIAS:
            bias = weights.get(f"{own}.bias")
            written[f"{other}.bias"] = weight.new_zeros(weight.shape[0]) if bias is None else bias.contiguous()
    return written


def from_gpt2(weights: Mapping[str, torch.Tensor], config: ReferenceGPTConfig) -> dict[str, torch.Tensor]:
    """The way back.

    Raises:
        KeyError: a weight is missing.
        ValueError: the configuration has no biases and the weights have.
    """
    if not config.bias and has_biases(weights):
        raise ValueError("the weights have biases and their configuration has none")
    read = {}
    for own, other in _module_names(config).items():
        source = _TOP["token_embedding"] if own == "lm_head" and config.tie_word_embeddings else other
        weight = weights[f"{source}.weight"]
        read[f"{own}.weight"] = weight.t() if _is_transposed(own) else weight
        if config.bias and own not in _WITHOUT_BIAS:
            read[f"{own}.bias"] = weights[f"{other}.bias"]
    return read


def has_biases(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a bias is not zero: one without biases that was trained elsewhere as a GPT-2 has some afterwards."""
    return any(bool(weight.any()) for name, weight in weights.items() if name.endswith(".bias"))


def _module_names(config: ReferenceGPTConfig) -> dict[str, str]:
    blocks = {
        f"blocks.{layer}.{own}": f"transformer.h.{layer}.{other}"
        for layer in range(config.n_layer)
        for own, other in _BLOCK.items()
    }
    return _TOP | blocks


def _is_transposed(own: str) -> bool:
    return own.endswith("_proj")


def reference_config(fields: Mapping[str, Any]) -> ReferenceGPTConfig:
    """The configuration from its fields; `model_type` and what is no size of the model are left out."""
    return ReferenceGPTConfig(
        **{key: value for key, value in fields.items() if key not in ("model_type", "batch_size")}
    )
