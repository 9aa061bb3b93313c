"""The Transformer and the AdamW of a course (CS336), as its package `cs336_basics` has them.

Every projection is an einsum, attention keeps scores, masked scores and softmax, and softmax and cross entropy are written out. A name
that lives on in the course's code lives on here: it decides what the allocator can use again. Initial values are left out, for no shape
depends on them.

Source: cs336-basics/cs336_basics (model.py, nn_utils.py, optimizer.py) in github.com/Wedsonlin/assignment2-systems at 87b08641.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """x W^T, by einsum and without a bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        return torch.einsum("...i,oi->...o", x, self.weight)


class Norm(nn.Module):
    """RMSNorm in fp32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [..., E] over E."""
        dtype = x.dtype
        x = x.to(torch.float32)
        inverse = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        x = x * inverse
        return (self.weight * x).to(dtype)


class Rotary(nn.Module):
    """One table of cosines and sines for all layers; neighbours in a head are a pair."""

    def __init__(self, tokens: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(2, tokens, head_dim // 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, T, D] -> [B, H, T, D]."""
        # [B, H, T, D] -> [2, B, H, T, D / 2]
        first, second = x.reshape(*x.shape[:-1], -1, 2).permute(4, 0, 1, 2, 3).unbind(0)
        cosine, sine = self.table[:, : x.size(-2), :].unbind(0)
        rotated_first = cosine * first - sine * second
        rotated_second = sine * first + cosine * second
        result = torch.concat((rotated_first, rotated_second), dim=-1)
        return result


def softmax(x: Tensor) -> Tensor:
    """Over the last dimension, step by step."""
    shifted = x - torch.max(x, dim=-1, keepdim=True)[0]
    powers = torch.exp(shifted)
    return powers / torch.sum(powers, dim=-1, keepdim=True)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all tokens, step by step."""
    losses = -_log_softmax(logits)
    return torch.mean(torch.gather(losses, -1, targets.unsqueeze(-1)))


def _log_softmax(x: Tensor) -> Tensor:
    largest = torch.max(x, dim=-1, keepdim=True)[0]
    x = x - largest
    return x - torch.log(torch.sum(torch.exp(x), dim=-1, keepdim=True))


class Attention(nn.Module):
    """Causal attention with a mask made in each call."""

    def __init__(self, width: int, heads: int, rotary: Rotary) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.query, self.key, self.value, self.output = (Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        tokens = x.shape[1]
        query = self.query(x)
        key = self.key(x)
        value = self.value(x)
        # [B, T, E] -> [B, H, T, D]
        query, key, value = (
            each.reshape(*each.shape[:2], self.heads, -1).permute(0, 2, 1, 3) for each in (query, key, value)
        )
        query = self.rotary(query)
        key = self.rotary(key)
        positions = torch.arange(tokens, device=x.device)
        mask = positions.reshape(tokens, 1) >= positions.reshape(1, tokens)
        mask = mask[None, ...]
        mixed = _attend(query, key, value, mask)
        # [B, H, T, D] -> [B, T, E]
        mixed = mixed.permute(0, 2, 1, 3).reshape(x.shape[0], tokens, -1).contiguous()
        result = self.output(mixed)
        return result


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = torch.einsum("...qd,...kd->...qk", query, key) / math.sqrt(key.shape[-1])
    scores = torch.where(mask, scores, float("-inf"))
    weights = softmax(scores)
    return torch.einsum("...qk,...kd->...qd", weights, value)


class FeedForward(nn.Module):
    """SwiGLU with silu written out."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.down, self.up = Linear(width, inner), Linear(inner, width), Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., E]."""
        return self.down(_silu(self.gate(x)) * self.up(x))


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, inner: int, rotary: Rotary) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(width, heads, rotary), FeedForward(width, inner)
        self.norm1, self.norm2 = Norm(width), Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        attended = self.attention(self.norm1(x))
        middle = x + attended
        expanded = self.mlp(self.norm2(middle))
        result = middle + expanded
        return result


class Transformer(nn.Module):
    """The course's language model; embedding and head are not tied."""

    def __init__(self, model: dict[str, Any], tokens: int) -> None:
        super().__init__()
        width, heads, vocabulary = model["d_model"], model["heads"], model["vocab"]
        self.embedding = nn.Parameter(torch.empty(vocabulary, width))
        self.rotary = Rotary(tokens, width // heads)
        self.blocks = nn.ModuleList(Block(width, heads, model["d_ff"], self.rotary) for _ in range(model["layers"]))
        self.norm, self.head = Norm(width), Linear(width, vocabulary)

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, T] -> logits [B, T, V]."""
        embedded = self.embedding[token_ids, :]
        x = embedded
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits = self.head(x)
        return logits


class CourseAdamW(torch.optim.Optimizer):
    """Parameter by parameter; the names of one stay until the next one's take their place."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e-3})

    def step(self, closure: Any = None) -> None:
        """Every state is made anew."""
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad.data
                state = self.state[parameter]
                parameter.data -= 1e-3 * 0.01 * parameter.data
                old_mean = state.get("mean", torch.zeros_like(gradient))
                old_square = state.get("square", torch.zeros_like(gradient))
                mean = 0.9 * old_mean + (0.1 * gradient)
                square = 0.999 * old_square + (0.001 * torch.square(gradient))
                parameter.data -= 1e-3 * mean / (torch.sqrt(square) + 1e-8)
                state["mean"] = mean
                state["square"] = square
