"""The key-value cache examples of rasbt/LLMs-from-scratch, chapter 4: MHA, GQA, and a wide SwiGLU network; bf16, eager.

Keys and values grow by concatenation; the causal mask is made from positions in every call; softmax works on scaled
scores. Weights that differ in no way that memory could see (scale and shift of LayerNorm) are plain parameters.

Source: https://github.com/rasbt/LLMs-from-scratch, ch04/04_gqa (gpt_with_kv_mha.py, gpt_with_kv_gqa.py) and ch04/07_moe
(gpt_with_kv_ffn.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from validation.workloads.generation_layers import embedding, linear, weight
from validation.workloads.generation_loop import Workload, run_workload
from validation.workloads.result import WorkloadResult


def _layer_norm(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True, unbiased=False)
    normed = (x - mean) / torch.sqrt(variance + 1e-5)
    return scale * normed + shift


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3))))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.q, self.k, self.v = (linear(width, n * self.head_dim) for n in (heads, kv_heads, kv_heads))
        self.out = linear(width, width, bias=True)
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self.position = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        queries = self.q(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        new_keys = self.k(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        new_values = self.v(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.keys is None:
            self.keys, self.values = new_keys, new_values
        else:
            self.keys = torch.cat([self.keys, new_keys], dim=2)
            self.values = torch.cat([self.values, new_values], dim=2)
        keys, values = self.keys, self.values
        if self.kv_heads != self.heads:
            keys = keys.repeat_interleave(self.heads // self.kv_heads, dim=1)
            values = values.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = queries @ keys.transpose(2, 3)
        query_positions = torch.arange(self.position, self.position + length, device="cuda")
        key_positions = torch.arange(keys.shape[-2], device="cuda")
        self.position += length
        mask = query_positions.unsqueeze(-1) < key_positions.unsqueeze(0)
        scores = scores.masked_fill(mask, float("-inf"))
        weights = torch.softmax(scores / self.head_dim**0.5, dim=-1)
        context = (weights @ values).transpose(1, 2)
        return self.out(context.contiguous().view(batch, length, width))


class _Block(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, kv_heads: int, swiglu: bool) -> None:
        super().__init__()
        self.attention = _Attention(width, heads, kv_heads)
        self.swiglu = swiglu
        self.up, self.down = linear(width, inner, bias=not swiglu), linear(inner, width, bias=not swiglu)
        self.gate = linear(width, inner) if swiglu else None
        self.norm1, self.norm2 = weight(2, width), weight(2, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        x = self.attention(_layer_norm(x, *self.norm1))
        x = x + shortcut
        shortcut = x
        x = _layer_norm(x, *self.norm2)
        x = self.down(F.silu(self.gate(x)) * self.up(x)) if self.gate is not None else self.down(_gelu(self.up(x)))
        return x + shortcut


class GPTDecoder(nn.Module):
    """The chapter's GPT: learned positions, untied head."""

    def __init__(self, model: dict[str, Any], context_length: int, swiglu: bool) -> None:
        super().__init__()
        width, heads = model["d_model"], model["heads"]
        self.tokens, self.positions = embedding(model["vocab"], width), embedding(context_length, width)
        kv_heads = model.get("kv_heads", heads)
        self.blocks = nn.ModuleList(
            _Block(width, model["d_ff"], heads, kv_heads, swiglu) for _ in range(model["layers"])
        )
        self.norm, self.head = weight(2, width), linear(width, model["vocab"])
        self.position = 0

    def start(self, prompt_length: int, max_new_tokens: int) -> None:
        """The cache starts empty."""

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Logits of every token read."""
        length = token_ids.shape[1]
        embedded = self.tokens(token_ids)
        positions = torch.arange(self.position, self.position + length, device="cuda").unsqueeze(0)
        self.position += length
        position_embeddings = self.positions(positions)
        x = embedded + position_embeddings
        for block in self.blocks:
            x = block(x)
        del embedded, position_embeddings
        return self.head(_layer_norm(x, *self.norm))

    def next_token(self, token_ids: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Greedy."""
        token = output[:, -1].argmax(dim=-1, keepdim=True)
        return torch.cat([token_ids, token], dim=1), token


def cached_gpt(row: dict[str, Any]) -> WorkloadResult:
    """One of the scripts; the context is made as long as prompt and new tokens together."""
    context_length = row["seq_len"] + row["new_tokens"]
    swiglu = "SwiGLU" in row["model"]["name"]
    workload = Workload(
        build=lambda: GPTDecoder(row["model"], context_length, swiglu),
        prompt_length=row["seq_len"],
        max_new_tokens=row["new_tokens"],
        torch_version="2.9.0",
    )
    return run_workload(workload, "PyTorch release and GPU are not published; 2.9 on an A100 is assumed.")


WORKLOADS: dict[str, Callable[[dict[str, Any]], WorkloadResult]] = {
    f"rasbt-{number}": cached_gpt for number in ("010", "011", "013")
}
