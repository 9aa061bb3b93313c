"""The Llama of torchtitan in 2024.

In March 2024 the model flattens batch and sequence and makes fp32 logits that the loop holds on to through the next forward; in December
it does neither. Rotary positions are complex numbers, norms compute in fp32. Parameters are fp32 shards, computed in bf16, reduced in fp32.
What decides no shape (initial values, scheduler, data) is left out.

Source: github.com/pytorch/torchtitan, train.py, torchtrain/models/llama/model.py and torchtrain/parallelisms/parallelize_llama.py at
83c879f1 (pull request 165) and e28832e7 (FSDP1); train.py, torchtitan/models/llama/model.py and
torchtitan/parallelisms/parallelize_llama.py at 9dec370a.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Norm(nn.Module):
    """RMSNorm whose product with the weight is in the dtype of the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def _normal(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [..., E] over E."""
        output = self._normal(x.float()).type_as(x)
        return output * self.weight


def turns(head_dim: int, tokens: int) -> Tensor:
    """Unit complex numbers [T, D / 2] by whose angle a pair of a head is turned."""
    frequencies = 1.0 / (10_000.0 ** (torch.arange(0, head_dim, 2)[: head_dim // 2].float() / head_dim))
    positions = torch.arange(tokens, device=frequencies.device)
    angles = torch.outer(positions, frequencies).float()
    return torch.polar(torch.ones_like(angles), angles)


def turned(query: Tensor, key: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary positions of [B, T, H, D], in complex64."""
    complex_query = torch.view_as_complex(query.float().reshape(*query.shape[:-1], -1, 2))
    complex_key = torch.view_as_complex(key.float().reshape(*key.shape[:-1], -1, 2))
    table = table[: query.shape[1]].view(1, query.shape[1], 1, -1)
    turned_query = torch.view_as_real(complex_query * table).flatten(3)
    turned_key = torch.view_as_real(complex_key * table).flatten(3)
    return turned_query.type_as(query), turned_key.type_as(key)


def repeated(x: Tensor, times: int) -> Tensor:
    """[B, T, K, D] -> [B, T, K * times, D]."""
    if times == 1:
        return x
    batch, tokens, heads, width = x.shape
    return x[:, :, :, None, :].expand(batch, tokens, heads, times, width).reshape(batch, tokens, heads * times, width)


class Attention(nn.Module):
    """Causal attention by `scaled_dot_product_attention` on repeated keys and values."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads, self.kv_heads = model["d_model"], model["heads"], model["kv_heads"]
        self.head_dim = width // self.heads
        outputs = (self.heads, self.kv_heads, self.kv_heads)
        self.query, self.key, self.value = (nn.Linear(width, n * self.head_dim, bias=False) for n in outputs)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, table: Tensor, batch: int) -> Tensor:
        """[B, T, E] or [B * T, E], the same shape out."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        query = query.view(batch, -1, self.heads, self.head_dim)
        key = key.view(batch, -1, self.kv_heads, self.head_dim)
        value = value.view(batch, -1, self.kv_heads, self.head_dim)
        query, key = turned(query, key, table)
        keys = repeated(key, self.heads // self.kv_heads)
        values = repeated(value, self.heads // self.kv_heads)
        # [B, T, H, D] -> [B, H, T, D]
        query = query.transpose(1, 2)
        key = keys.transpose(1, 2)
        value = values.transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).contiguous()
        mixed = mixed.view(x.shape)
        return self.output(mixed)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.down = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)
        self.up = nn.Linear(width, inner, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., E]."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(model), FeedForward(model["d_model"], model["d_ff"])
        self.norm1, self.norm2 = Norm(model["d_model"]), Norm(model["d_model"])

    def forward(self, x: Tensor, table: Tensor, batch: int) -> Tensor:
        """The same shape out."""
        middle = x + self.attention(self.norm1(x), table, batch)
        result = middle + self.mlp(self.norm2(middle))
        return result


class Llama(nn.Module):
    """torchtitan's model of March 2024 (`flattened`) or of December."""

    def __init__(self, model: dict[str, Any], *, flattened: bool, table_tokens: int) -> None:
        super().__init__()
        self.flattened, self.table_tokens = flattened, table_tokens
        self.head_dim = model["d_model"] // model["heads"]
        self.embedding = nn.Embedding(model["vocab"], model["d_model"])
        self.register_buffer("table", turns(self.head_dim, table_tokens), persistent=False)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model["layers"]))
        self.norm = Norm(model["d_model"])
        self.head = nn.Linear(model["d_model"], model["vocab"], bias=False)

    def make_table(self) -> None:
        """On the GPU, once the model is there."""
        with torch.device("cuda"):
            self.table = turns(self.head_dim, self.table_tokens)

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, T] -> logits [B, T, V]."""
        batch, width = token_ids.shape[0], self.embedding.embedding_dim
        x = self.embedding(token_ids)
        if self.flattened:
            x = x.view(-1, width)
        for block in self.blocks:
            x = block(x, self.table, batch)
        x = self.norm(x)
        if not self.flattened:
            logits = self.head(x)
            return logits
        x = x.view(batch, -1, width)
        logits = self.head(x).float()
        return logits
