"""The decoders of the fms-acceleration benchmark as transformers 4.48 ran them: Mistral, Granite (PowerLM) and GPT-BigCode (SantaCoder).

All with the flash-attn package, which takes [B, T, H, D] and fewer key heads than query heads, and with reentrant checkpointing of every
layer. Source: github.com/huggingface/transformers at v4.48.1, models/{mistral,granite,gpt_bigcode}/modeling_*.py and loss/loss_utils.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention of [B, T, H, D], the same out."""
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    shares = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=shares).transpose(1, 2)


class Norm(nn.Module):
    """RMSNorm in fp32 with the weight in bf16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [..., E] over E."""
        dtype = x.dtype
        x = x.to(torch.float32)
        variance = x.pow(2).mean(-1, keepdim=True)
        x = x * torch.rsqrt(variance + 1e-6)
        return self.weight * x.to(dtype)


class GatedLayer(nn.Module):
    """Mistral's and Granite's layer; Granite scales what it adds."""

    def __init__(self, model: dict[str, Any], *, scales: bool) -> None:
        super().__init__()
        width, self.heads, self.kv_heads = model["d_model"], model["heads"], model["kv_heads"]
        self.head_dim, self.scales = width // self.heads, scales
        outputs = (self.heads, self.kv_heads, self.kv_heads)
        self.query, self.key, self.value = (nn.Linear(width, n * self.head_dim, bias=False) for n in outputs)
        self.output = nn.Linear(width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, model["d_ff"], bias=False) for _ in range(2))
        self.down = nn.Linear(model["d_ff"], width, bias=False)
        self.norm1, self.norm2 = Norm(width), Norm(width)

    def attend(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        shape = (*x.shape[:-1], -1, self.head_dim)
        query = self.query(x).view(shape).transpose(1, 2)
        key = self.key(x).view(shape).transpose(1, 2)
        value = self.value(x).view(shape)
        query, key = (_rotated(each, cosine, sine).transpose(1, 2) for each in (query, key))
        mixed = flash(query, key, value)
        mixed = mixed.reshape(*x.shape).contiguous()
        mixed = self.output(mixed)
        return mixed

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        residual = x
        x = self.norm1(x)
        x = self.attend(x, cosine, sine)
        x = residual + (x * 0.22 if self.scales else x)
        residual = x
        x = self.norm2(x)
        x = self.down(F.silu(self.gate(x)) * self.up(x))
        x = residual + (x * 0.22 if self.scales else x)
        return x


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cosine) + (turned * sine)


class GatedDecoder(nn.Module):
    """Mistral; or Granite, which ties its head and scales embeddings and logits."""

    def __init__(self, model: dict[str, Any], *, scales: bool) -> None:
        super().__init__()
        self.scales, self.head_dim = scales, model["d_model"] // model["heads"]
        self.embedding = nn.Embedding(model["vocab"], model["d_model"])
        self.layers = nn.ModuleList(GatedLayer(model, scales=scales) for _ in range(model["layers"]))
        self.norm, self.head = Norm(model["d_model"]), nn.Linear(model["d_model"], model["vocab"], bias=False)
        if scales:
            self.head.weight = self.embedding.weight

    def _positions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inverse = 1.0 / (10_000.0 ** (torch.arange(0, self.head_dim, 2, device=x.device).float() / self.head_dim))
        positions = torch.arange(x.shape[1], device=x.device).float()
        angles = torch.outer(positions, inverse)[None]
        both = torch.cat((angles, angles), dim=-1)
        cosine, sine = both.cos(), both.sin()
        return cosine.to(x.dtype)[:, None], sine.to(x.dtype)[:, None]

    def forward(self, token_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] -> loss and logits."""
        x = self.embedding(token_ids)
        if self.scales:
            x = x * 12.0
        cosine, sine = self._positions(x)
        for layer in self.layers:
            x = checkpoint(layer, x, cosine, sine, use_reentrant=True)
        x = self.norm(x)
        logits = self.head(x)
        if self.scales:
            logits = logits / 8.0
            # Granite's own loss: the name goes to the fp32 copy, so the logits in bf16 die.
            logits = logits.float()
            return shifted_loss(logits, labels), logits
        return upcast_loss(logits, labels), logits


class BigCodeLayer(nn.Module):
    """GPT-2's layer with one head of keys and values for all, and dropout of 0.1."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads = model["d_model"], model["heads"]
        self.head_dim = width // self.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.joined, self.output = nn.Linear(width, width + 2 * self.head_dim), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, model["d_ff"]), nn.Linear(model["d_ff"], width)
        self.dropout = nn.Dropout(0.1)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, E] -> the same, and keys with values, which lie in the joined projection's output and keep all of it."""
        batch, tokens, width = x.shape
        query, pair = self.joined(x).split((width, 2 * self.head_dim), dim=2)
        key, value = pair.split((self.head_dim, self.head_dim), dim=-1)
        query = query.view(batch, tokens, self.heads, self.head_dim)
        query, key, value = (each.transpose(1, 2) for each in (query, key.unsqueeze(2), value.unsqueeze(2)))
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=0.1, is_causal=True, enable_gqa=True)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        mixed = self.output(mixed)
        return self.dropout(mixed), pair

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, E] -> the same, and keys with values."""
        residual = x
        x = self.norm1(x)
        attended, pair = self.attend(x)
        x = attended + residual
        residual = x
        x = self.norm2(x)
        x = self.up(x)
        x = F.gelu(x, approximate="tanh")
        x = self.down(x)
        expanded = self.dropout(x)
        x = residual + expanded
        return x, pair


class BigCodeDecoder(nn.Module):
    """SantaCoder: learned positions and a tied head; its cache is not turned off by checkpointing and lives as long as the logits."""

    def __init__(self, model: dict[str, Any], positions: int = 2048) -> None:
        super().__init__()
        width = model["d_model"]
        self.embedding, self.positions = nn.Embedding(model["vocab"], width), nn.Embedding(positions, width)
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.ModuleList(BigCodeLayer(model) for _ in range(model["layers"]))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, model["vocab"], bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("mask", torch.ones(positions, positions, dtype=torch.bool), persistent=False)

    def forward(self, token_ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """[B, T] -> loss, logits and cache."""
        cache: list[Tensor] = []
        x = self.embedding(token_ids) + self.positions(torch.arange(token_ids.shape[1], device=token_ids.device))
        x = self.dropout(x)
        for layer in self.layers:
            x, pair = checkpoint(layer, x, use_reentrant=True)
            cache.append(pair)
        x = self.norm(x)
        logits = self.head(x)
        return shifted_loss(logits, labels), logits, cache


def upcast_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Of `loss_utils.py`: in fp32, while the caller holds on to its logits."""
    logits = logits.float()
    return shifted_loss(logits, labels)


def shifted_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of a copy without the last token, in the dtype of the logits."""
    shifted = logits[..., :-1, :].contiguous()
    targets = labels[..., 1:].contiguous()
    shifted = shifted.view(-1, logits.shape[-1])
    return F.cross_entropy(shifted, targets.view(-1))
