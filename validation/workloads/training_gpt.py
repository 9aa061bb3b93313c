"""GPT-2 124M as in "Build a Large Language Model From Scratch": composed layers, or PyTorch's fused ones.

The output head is not tied to the embedding, queries, keys and values have no bias, and dropout is 0.1 everywhere.

Source: github.com/rasbt/LLMs-from-scratch, ch05/10_llm-training-speed (00_orig.py and the steps that its README lists).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS, DROPOUT = 50_257, 1024, 768, 12, 12, 0.1

AttentionKind = Literal["mask buffer", "mask on the fly", "fused"]


@dataclass(frozen=True)
class GPTVariant:
    """Which of the guide's speed-ups are in."""

    attention: AttentionKind = "mask buffer"
    fused_layers: bool = False
    """PyTorch's LayerNorm and tanh GELU in place of composed ones."""


class ComposedLayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * scale + shift, each step an operator of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [B, T, E] over E."""
        # Named, because both live to the end of the call.
        center = x.mean(-1, keepdim=True)
        spread = x.var(-1, keepdim=True, unbiased=False)
        normal = (x - center) / torch.sqrt(spread + 1e-5)
        return self.scale * normal + self.shift


class ComposedGELU(nn.Module):
    """The tanh formula of GELU, each step an operator of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise on [B, T, F]."""
        slope = torch.sqrt(torch.tensor(2.0 / math.pi))
        return 0.5 * x * (1 + torch.tanh(slope * (x + 0.044715 * torch.pow(x, 3))))


class EagerAttention(nn.Module):
    """Causal attention that keeps the score matrix [B, H, T, T]; the mask is a fp32 buffer or made in each call."""

    def __init__(self, *, mask_buffer: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.output = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        if mask_buffer:
            self.register_buffer("mask", torch.triu(torch.ones(CONTEXT, CONTEXT), diagonal=1))
        else:
            self.mask = None

    def _blocked(self, tokens: int, device: torch.device) -> Tensor:
        if self.mask is not None:
            return self.mask.bool()[:tokens, :tokens]
        return torch.triu(torch.ones(tokens, tokens, dtype=torch.bool, device=device), diagonal=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        batch, tokens, _ = x.shape
        # The order of the three products is the guide's; [B, T, E] -> [B, H, T, D]
        key, query, value = (
            projection(x).view(batch, tokens, HEADS, -1).transpose(1, 2)
            for projection in (self.key, self.query, self.value)
        )
        scores = query @ key.transpose(2, 3)
        blocked = self._blocked(tokens, x.device)
        scores.masked_fill_(blocked, -torch.inf)
        weights = torch.softmax(scores / key.shape[-1] ** 0.5, dim=-1)
        weights = self.dropout(weights)
        # [B, H, T, D] -> [B, T, E]
        mixed = (weights @ value).transpose(1, 2)
        mixed = mixed.reshape(batch, tokens, WIDTH)
        mixed = self.output(mixed)
        return mixed


class FusedAttention(nn.Module):
    """One joined projection and `scaled_dot_product_attention`."""

    def __init__(self) -> None:
        super().__init__()
        self.joined = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        batch, tokens, _ = x.shape
        # [B, T, 3 E] -> [3, B, H, T, D]
        joined = self.joined(x).view(batch, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        query, key, value = joined
        dropout = DROPOUT if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        # [B, H, T, D] -> [B, T, E]
        mixed = mixed.transpose(1, 2).contiguous().view(batch, tokens, WIDTH)
        mixed = self.output(mixed)
        return mixed


class Block(nn.Module):
    """Pre-norm attention and MLP, each followed by dropout and the residual sum."""

    def __init__(self, variant: GPTVariant) -> None:
        super().__init__()
        norm = nn.LayerNorm if variant.fused_layers else ComposedLayerNorm
        fused = variant.attention == "fused"
        self.attention = FusedAttention() if fused else EagerAttention(mask_buffer=variant.attention == "mask buffer")
        activation = nn.GELU(approximate="tanh") if variant.fused_layers else ComposedGELU()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), activation, nn.Linear(4 * WIDTH, WIDTH))
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        for norm, layer in ((self.norm1, self.attention), (self.norm2, self.mlp)):
            residual = x
            # Rebinding `x` frees each intermediate result as early as the guide's code does.
            x = norm(x)
            x = layer(x)
            x = self.dropout(x)
            x = x + residual
        return x


class GPT(nn.Module):
    """Token and position embeddings, twelve blocks, final norm and an output head of its own."""

    def __init__(self, variant: GPTVariant) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.Sequential(*(Block(variant) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH) if variant.fused_layers else ComposedLayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, T] -> logits [B, T, V]."""
        by_token = self.tokens(token_ids)
        by_position = self.positions(torch.arange(token_ids.shape[1], device=token_ids.device))
        x = by_token + by_position
        x = self.dropout(x)
        x = self.blocks(x)
        x = self.norm(x)
        logits = self.head(x)
        return logits
