"""Decoders with a cache allocated in full beforehand: gpt-fast's (torchao), and lit-gpt's of July 2023.

gpt-fast: weights and cache in bf16, a causal mask of cache x cache booleans made by `tril(ones)`, keys and values
repeated to all heads, `scaled_dot_product_attention` over the whole cache with a mask, which decoding runs on the math
backend. lit-gpt: falcon-7b with one key-value head and a head of its own, mask and rotary tables for the model's whole
context.

Sources: pytorch/ao `torchao/_models/llama/{model,generate}.py`; Lightning-AI/lit-gpt `lit_gpt/model.py`,
`generate/base.py` (July 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from validation.workloads.generation_layers import embedding, linear, rotate_half, weight
from validation.workloads.generation_loop import Workload, run_workload
from validation.workloads.result import WorkloadResult

LLAMA_POSITIONS = 131072
FALCON_POSITIONS = 2048


class _LlamaLayer(nn.Module):
    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        width, inner = model["d_model"], model["d_ff"]
        self.heads, self.kv_heads = model["heads"], model["kv_heads"]
        self.head_dim = width // self.heads
        self.qkv = linear(width, (self.heads + 2 * self.kv_heads) * self.head_dim)
        self.out = linear(width, width)
        self.gate, self.up, self.down = linear(width, inner), linear(width, inner), linear(inner, width)
        self.norm1, self.norm2 = weight(width), weight(width)

    def make_cache(self, length: int) -> None:
        shape = (1, self.kv_heads, length, self.head_dim)
        self.keys = torch.zeros(shape, dtype=torch.bfloat16, device="cuda")
        self.values = torch.zeros(shape, dtype=torch.bfloat16, device="cuda")

    def forward(self, x: torch.Tensor, rotary: torch.Tensor, mask: torch.Tensor, positions: Any) -> torch.Tensor:
        hidden = x + self._attend(_rms_norm(x, self.norm1), rotary, mask, positions)
        normed = _rms_norm(hidden, self.norm2)
        return hidden + self.down(F.silu(self.gate(normed)) * self.up(normed))

    def _attend(self, x: torch.Tensor, rotary: torch.Tensor, mask: torch.Tensor, positions: Any) -> torch.Tensor:
        batch, length, width = x.shape
        kv_width = self.kv_heads * self.head_dim
        q, k, v = self.qkv(x).split([width, kv_width, kv_width], dim=-1)
        q = _rotate_pairs(q.view(batch, length, self.heads, self.head_dim), rotary)
        k = _rotate_pairs(k.view(batch, length, self.kv_heads, self.head_dim), rotary)
        v = v.view(batch, length, self.kv_heads, self.head_dim)
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        self.keys[:, :, positions] = k
        self.values[:, :, positions] = v
        k = self.keys.repeat_interleave(self.heads // self.kv_heads, dim=1)
        v = self.values.repeat_interleave(self.heads // self.kv_heads, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.0)
        return self.out(y.transpose(1, 2).contiguous().view(batch, length, width))


def _rms_norm(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(torch.mean(wide * wide, dim=-1, keepdim=True) + 1e-5)
    return normed.type_as(x) * scale


def _rotate_pairs(x: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    pairs = x.float().reshape(*x.shape[:-1], -1, 2)
    rotary = rotary.view(1, pairs.size(1), 1, pairs.size(3), 2)
    rotated = torch.stack(
        [
            pairs[..., 0] * rotary[..., 0] - pairs[..., 1] * rotary[..., 1],
            pairs[..., 1] * rotary[..., 0] + pairs[..., 0] * rotary[..., 1],
        ],
        -1,
    )
    return rotated.flatten(3).type_as(x)


class GptFastDecoder(nn.Module):
    """Llama 3.1 in gpt-fast style."""

    def __init__(self, model: dict[str, Any], cache_size: int) -> None:
        super().__init__()
        self.cache_size, self.head_dim = cache_size, model["d_model"] // model["heads"]
        self.embed = embedding(model["vocab"], model["d_model"])
        self.layers = nn.ModuleList(_LlamaLayer(model) for _ in range(model["layers"]))
        self.norm, self.head = weight(model["d_model"]), linear(model["d_model"], model["vocab"])
        self.read = 0

    def start(self, prompt_length: int, max_new_tokens: int) -> None:
        """Caches, rotary table, causal mask, in this order."""
        for layer in self.layers:
            layer.make_cache(self.cache_size)
        self.rotary = self._rotary_table()
        self.causal = torch.tril(torch.ones(self.cache_size, self.cache_size, dtype=torch.bool, device="cuda"))

    def _rotary_table(self) -> torch.Tensor:
        exponents = torch.arange(0, self.head_dim, 2, device="cuda")[: self.head_dim // 2].float() / self.head_dim
        frequencies = 1.0 / (500000**exponents)
        angles = torch.outer(torch.arange(LLAMA_POSITIONS, device="cuda"), frequencies)
        turns = torch.polar(torch.ones_like(angles), angles)
        return torch.stack([turns.real, turns.imag], dim=-1).to(dtype=torch.bfloat16)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Logits of every token read; decoding runs on the math backend."""
        length = token_ids.shape[1]
        positions = torch.arange(self.read, self.read + length, device="cuda")
        self.read += length
        with sdpa_kernel([SDPBackend.MATH]) if length == 1 else nullcontext():
            mask = self.causal[None, None, positions]
            rotary = self.rotary[positions]
            x = self.embed(token_ids)
            for layer in self.layers:
                x = layer(x, rotary, mask, positions)
            return self.head(_rms_norm(x, self.norm))

    def next_token(self, token_ids: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Temperature 0.8 and top-k 200, drawn without a host wait."""
        logits = output[0, -1] / 0.8
        values, _ = torch.topk(logits, 200)
        logits = torch.where(logits < values[-1], -float("inf"), logits)
        probabilities = F.softmax(logits, dim=-1)
        noise = torch.empty_like(probabilities).exponential_(1)
        token = torch.argmax(probabilities / noise, dim=-1, keepdim=True).to(dtype=torch.int)
        return torch.cat([token_ids, token[None].long()], dim=1), token[None]


class _FalconLayer(nn.Module):
    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads = model["d_model"], model["heads"]
        self.head_dim = width // self.heads
        self.qkv, self.out = linear(width, width + 2 * self.head_dim), linear(width, width)
        self.up, self.down = linear(width, model["d_ff"]), linear(model["d_ff"], width)
        self.norm = weight(2, width)

    def make_cache(self, length: int) -> None:
        shape = (1, 1, length, self.head_dim)
        self.keys = torch.zeros(shape, dtype=torch.bfloat16, device="cuda")
        self.values = torch.zeros(shape, dtype=torch.bfloat16, device="cuda")

    def forward(self, x: torch.Tensor, rotary: Any, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        normed = F.layer_norm(x, x.shape[-1:], *self.norm)
        batch, length, width = x.shape
        qkv = self.qkv(normed).view(batch, length, self.heads + 2, self.head_dim).permute(0, 2, 1, 3)
        q, k, v = qkv.split((self.heads, 1, 1), dim=1)
        q, k = (tensor * rotary[0] + rotate_half(tensor) * rotary[1] for tensor in (q, k))
        self.keys = self.keys.index_copy_(2, positions, k)
        self.values = self.values.index_copy_(2, positions, v)
        k, v = (cache.expand(batch, self.heads, -1, self.head_dim) for cache in (self.keys, self.values))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.0)
        attended = self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return self.down(F.gelu(self.up(normed))) + attended + x


class FalconDecoder(nn.Module):
    """falcon-7b in lit-gpt: parallel attention and network, untied head."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        width = model["d_model"]
        self.embed, self.head = embedding(model["vocab"], width), linear(width, model["vocab"])
        self.layers = nn.ModuleList(_FalconLayer(model) for _ in range(model["layers"]))
        self.norm = weight(2, width)
        self.head_dim = width // model["heads"]
        self.read = 0

    def start(self, prompt_length: int, max_new_tokens: int) -> None:
        """Caches of prompt and new tokens; mask and rotary tables of the whole context."""
        self.length = prompt_length + max_new_tokens
        shape = (FALCON_POSITIONS, self.head_dim)
        self.tables = [torch.empty(shape, dtype=torch.bfloat16, device="cuda") for _ in range(2)]
        ones = torch.ones((FALCON_POSITIONS, FALCON_POSITIONS), dtype=torch.bool, device="cuda")
        self.causal = torch.tril(ones)[None, None]
        for layer in self.layers:
            layer.make_cache(self.length)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Logits of every token read."""
        length = token_ids.shape[1]
        positions = torch.arange(self.read, self.read + length, device="cuda")
        self.read += length
        rotary = [table.index_select(0, positions) for table in self.tables]
        mask = self.causal.index_select(2, positions)[:, :, :, : self.length]
        x = self.embed(token_ids)
        for layer in self.layers:
            x = layer(x, rotary, mask, positions)
        return self.head(F.layer_norm(x, x.shape[-1:], *self.norm))

    def next_token(self, token_ids: torch.Tensor, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Temperature 0.8 and top-k 200."""
        logits = output[0, -1] / 0.8
        values, _ = torch.topk(logits, 200)
        logits = torch.where(logits < values[[-1]], -float("inf"), logits)
        token = torch.multinomial(F.softmax(logits, dim=-1), num_samples=1)
        return torch.cat([token_ids, token[None]], dim=1), token[None]


def gpt_fast(row: dict[str, Any]) -> WorkloadResult:
    """torchao's eager bf16 run with a cache of a given size."""
    cache_size = row["extra"]["cache_size"]
    workload = Workload(
        build=lambda: GptFastDecoder(row["model"], cache_size),
        prompt_length=row["seq_len"],
        max_new_tokens=row["new_tokens"],
        torch_version="2.6.0",
        keeps_output=True,
    )
    return run_workload(workload, "Nightly PyTorch of November 2024, taken as 2.6.")


def falcon(row: dict[str, Any]) -> WorkloadResult:
    """lit-gpt's generate script."""
    workload = Workload(
        build=lambda: FalconDecoder(row["model"]),
        prompt_length=row["seq_len"],
        max_new_tokens=row["new_tokens"],
        gpu="a100-40gb",
        torch_version="2.1.0",
        keeps_output=True,
    )
    notes = "Nightly PyTorch of July 2023, taken as 2.1; the prompt's length is the script's default."
    return run_workload(workload, notes)


WORKLOADS: dict[str, Callable[[dict[str, Any]], WorkloadResult]] = {
    "litgpt-050": falcon,
    **{f"aokv-{number}": gpt_fast for number in ("001", "003", "006")},
}

NOT_EXPRESSIBLE: dict[str, str] = {
    "aoq-001": "compiled: Inductor's fused kernels and CUDA graph pools decide what is allocated",
    "aoq-005": "compiled: Inductor's fused kernels and CUDA graph pools decide what is allocated",
    "aoq-006": "compiled, and int8 weights whose quantisation from bf16 on the GPU is part of the peak",
    "aoq-008": "compiled: Inductor's fused kernels and CUDA graph pools decide what is allocated",
}
"""Rows graded A that are left out, with the reason."""
