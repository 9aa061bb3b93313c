"""Qwen2 and Qwen2.5 generation as transformers 4.38 and 4.46 ran it with flash attention 2.

What those releases did that the present one does not: keys and values are repeated to all heads before the kernel; the
first keys of a layer enter the cache without a copy; 4.38 computes logits of every position and casts them to fp32,
keeps its output until the next one is there, and holds rotary tables of the full context in every layer. 4.46 computes
logits of the last position only and `generate` clones them and casts the clone.

Sources: transformers v4.46.0 and v4.38.2, `models/qwen2/modeling_qwen2.py`, `cache_utils.py`, `generation/utils.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from validation.workloads.generation_layers import embedding, linear, repeat_kv, rms_norm_fp32, rotate_half, weight
from validation.workloads.generation_loop import Workload, run_workload
from validation.workloads.result import WorkloadResult

MAX_POSITIONS = 32768


class _Attention(nn.Module):
    def __init__(self, model: dict[str, Any], tables_per_layer: bool) -> None:
        super().__init__()
        width, self.heads, self.kv_heads = model["d_model"], model["heads"], model["kv_heads"]
        self.head_dim = width // self.heads
        self.q = linear(width, self.heads * self.head_dim, bias=True)
        self.k = linear(width, self.kv_heads * self.head_dim, bias=True)
        self.v = linear(width, self.kv_heads * self.head_dim, bias=True)
        self.o = linear(self.heads * self.head_dim, width)
        self.tables = None
        if tables_per_layer:
            shape = (MAX_POSITIONS, self.head_dim)
            self.tables = [torch.empty(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, rotary: Any, position_ids: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        cos, sin = rotary if self.tables is None else [table[position_ids] for table in self.tables]
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        q, k = (q * cos) + (rotate_half(q) * sin), (k * cos) + (rotate_half(k) * sin)
        if self.keys is None:
            self.keys, self.values = k, v
        else:
            self.keys = torch.cat([self.keys, k], dim=-2)
            self.values = torch.cat([self.values, v], dim=-2)
        k = repeat_kv(self.keys, self.heads // self.kv_heads)
        v = repeat_kv(self.values, self.heads // self.kv_heads)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        return self.o(out.transpose(1, 2).reshape(batch, length, -1).contiguous())


class _Layer(nn.Module):
    def __init__(self, model: dict[str, Any], tables_per_layer: bool) -> None:
        super().__init__()
        width, inner = model["d_model"], model["d_ff"]
        self.attention = _Attention(model, tables_per_layer)
        self.gate, self.up, self.down = linear(width, inner), linear(width, inner), linear(inner, width)
        self.norm1, self.norm2 = weight(width), weight(width)

    def forward(self, x: torch.Tensor, rotary: Any, position_ids: torch.Tensor) -> torch.Tensor:
        residual = x
        x = rms_norm_fp32(x, self.norm1)
        x = residual + self.attention(x, rotary, position_ids)
        residual = x
        x = rms_norm_fp32(x, self.norm2)
        x = self.down(F.silu(self.gate(x)) * self.up(x))
        return residual + x


class QwenDecoder(nn.Module):
    """Qwen2 with the cache and the logits of one release."""

    def __init__(self, model: dict[str, Any], *, last_token_logits: bool) -> None:
        super().__init__()
        self.head_dim = model["d_model"] // model["heads"]
        self.last_token_logits = last_token_logits
        self.embed = embedding(model["vocab"], model["d_model"])
        self.layers = nn.ModuleList(_Layer(model, not last_token_logits) for _ in range(model["layers"]))
        self.norm = weight(model["d_model"])
        # Made only where it is not tied: loading a checkpoint leaves no trace of a head that is dropped again.
        self.head = None if model.get("tied") else linear(model["d_model"], model["vocab"])
        self.inverse_frequency = torch.empty(self.head_dim // 2, device="cuda")

    def start(self, prompt_length: int, max_new_tokens: int) -> None:
        """The cache grows by itself; the padding mask does not."""
        self.mask = torch.ones((1, prompt_length), dtype=torch.long, device="cuda")

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Logits of the last token (bf16), or of all (fp32)."""
        position_ids = (self.mask.cumsum(-1) - 1)[:, -token_ids.shape[1] :]
        # The name keeps the embeddings alive through all layers, as `inputs_embeds` does in the original.
        embedded = x = self.embed(token_ids)
        rotary = self._rotary(position_ids) if self.last_token_logits else None
        for layer in self.layers:
            x = layer(x, rotary, position_ids)
        x = rms_norm_fp32(x, self.norm)
        del embedded
        head = self.embed.weight if self.head is None else self.head.weight
        if self.last_token_logits:
            return F.linear(x[:, -1:, :], head)
        logits = F.linear(x, head)
        logits = logits.float()
        return logits

    def _rotary(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inverse = self.inverse_frequency[None, :, None].float().expand(1, -1, 1)
        angles = (inverse @ position_ids[:, None, :].float()).transpose(1, 2)
        table = torch.cat((angles, angles), dim=-1)
        return table.cos().to(torch.bfloat16), table.sin().to(torch.bfloat16)

    def next_token(self, token_ids: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampling with repetition penalty, temperature, top-k and top-p, as the model's generation_config.json
        asks."""
        scores = output.clone()[:, -1, :].float() if self.last_token_logits else output[:, -1, :]
        seen = torch.gather(scores, 1, token_ids)
        seen = torch.where(seen < 0, seen * 1.1, seen / 1.1)
        scores = scores.scatter(1, token_ids, seen)
        scores = scores / 0.7
        scores = scores.masked_fill(scores < torch.topk(scores, 20)[0][..., -1, None], float("-inf"))
        ordered, order = torch.sort(scores, descending=False)
        remove = ordered.softmax(dim=-1).cumsum(dim=-1) <= 0.2
        scores = scores.masked_fill(remove.scatter(1, order, remove), float("-inf"))
        token = torch.multinomial(F.softmax(scores, dim=-1), num_samples=1)
        self.mask = torch.cat([self.mask, self.mask.new_ones((1, 1))], dim=-1)
        return torch.cat([token_ids, token], dim=-1), token


def qwen2_5(row: dict[str, Any]) -> WorkloadResult:
    """Qwen2.5, transformers 4.46.0."""
    notes = "transformers 4.46 semantics; flash attention's split-KV scratch is not modelled."
    return run_workload(_workload(row, last_token_logits=True, torch_version="2.3.1"), notes)


def qwen2(row: dict[str, Any]) -> WorkloadResult:
    """Qwen2, transformers 4.38.2."""
    notes = (
        "transformers 4.38 semantics: fp32 logits of all positions; rotary tables of 32768 positions in every layer."
    )
    return run_workload(_workload(row, last_token_logits=False, torch_version="2.1.2"), notes)


def _workload(row: dict[str, Any], *, last_token_logits: bool, torch_version: str) -> Workload:
    return Workload(
        build=lambda: QwenDecoder(row["model"], last_token_logits=last_token_logits),
        prompt_length=row["seq_len"],
        max_new_tokens=row["new_tokens"],
        torch_version=torch_version,
        keeps_output=not last_token_logits,
    )


_QWEN2_5 = "001 003 005 006 008 010 011 013 018 023 025 026 028 030".split()
_QWEN2 = "003 006 008 010 011".split()
WORKLOADS: dict[str, Callable[[dict[str, Any]], WorkloadResult]] = {
    **{f"qwen25-{number}": qwen2_5 for number in _QWEN2_5},
    **{f"qwen2-{number}": qwen2 for number in _QWEN2},
}
