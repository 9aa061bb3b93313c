"""OctoCoder (StarCoder, multi-query attention) in bf16 through a transformers pipeline of 2023, eager attention.

The model keeps one causal mask of 8192 x 8192 booleans; keys and values are cached together, one head each.

Source: transformers v4.33, `models/gpt_bigcode/modeling_gpt_bigcode.py`; docs/source/en/llm_tutorial_optimization.md.
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

MAX_POSITIONS = 8192


class _Block(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.qkv = linear(width, width + 2 * self.head_dim, bias=True)
        self.out = linear(width, width, bias=True)
        self.up, self.down = linear(width, inner, bias=True), linear(inner, width, bias=True)
        self.norm1, self.norm2 = weight(2, width), weight(2, width)
        self.past: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        residual = x
        x = self.out(self._attend(F.layer_norm(x, x.shape[-1:], *self.norm1), mask))
        x = x + residual
        residual = x
        x = F.layer_norm(x, x.shape[-1:], *self.norm2)
        return residual + self.down(F.gelu(self.up(x), approximate="tanh"))

    def _attend(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        query, key_value = self.qkv(x).split((width, 2 * self.head_dim), dim=2)
        self.past = key_value if self.past is None else torch.cat((self.past, key_value), dim=-2)
        key, value = self.past.split((self.head_dim, self.head_dim), dim=-1)
        query = query.reshape(batch, length * self.heads, self.head_dim)
        scores = torch.empty((batch, length * self.heads, key.shape[1]), device="cuda", dtype=x.dtype)
        scores = torch.baddbmm(scores, query, key.transpose(-1, -2), beta=0, alpha=self.head_dim**-0.5)
        scores = scores.view(batch, length, self.heads, -1).float()
        scores = torch.where(mask, scores, torch.finfo(torch.float32).min)
        weights = torch.softmax(scores, dim=-1).to(x.dtype).view(batch, length * self.heads, -1)
        return torch.bmm(weights, value).view(batch, length, width)


class StarCoderDecoder(nn.Module):
    """GPTBigCode with a tied head."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        width = model["d_model"]
        self.tokens, self.positions = embedding(model["vocab"], width), embedding(MAX_POSITIONS, width)
        self.blocks = nn.ModuleList(_Block(width, model["d_ff"], model["heads"]) for _ in range(model["layers"]))
        self.norm = weight(2, width)
        self.causal = torch.ones((MAX_POSITIONS, MAX_POSITIONS), dtype=torch.bool).tril().to("cuda")
        self.read = 0

    def start(self, prompt_length: int, max_new_tokens: int) -> None:
        """The cache starts empty."""

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Logits of every token read."""
        length = token_ids.shape[1]
        positions = torch.arange(self.read, self.read + length, device="cuda").unsqueeze(0)
        self.read += length
        mask = self.causal[None, self.read - length : self.read, : self.read].unsqueeze(2)
        x = self.tokens(token_ids) + self.positions(positions)
        for block in self.blocks:
            x = block(x, mask)
        return F.linear(F.layer_norm(x, x.shape[-1:], *self.norm), self.tokens.weight)

    def next_token(self, token_ids: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Greedy."""
        token = output[:, -1, :].argmax(dim=-1, keepdim=True)
        return torch.cat([token_ids, token], dim=-1), token


def octocoder(row: dict[str, Any]) -> WorkloadResult:
    """The tutorial's first measurement."""
    workload = Workload(
        build=lambda: StarCoderDecoder(row["model"]),
        prompt_length=row["seq_len"],
        max_new_tokens=row["new_tokens"],
        torch_version="2.0.1",
        keeps_output=True,
    )
    return run_workload(workload, "The tutorial does not print its PyTorch release; 2.0 is assumed.")


WORKLOADS: dict[str, Callable[[dict[str, Any]], WorkloadResult]] = {"hfocto-001": octocoder}
