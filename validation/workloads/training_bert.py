"""BERT-large for sequence classification as transformers 4.15 wrote it, with one version effect of PyTorch before 1.11.

That autograd handed the softmax's input to its backward, only to read the dtype; so the input stayed alive beside the
output.

Source: github.com/huggingface/transformers at v4.15.0, src/transformers/models/bert/modeling_bert.py; the config.json
of bert-large-uncased. PyTorch: tools/autograd/derivatives.yaml, where `_softmax_backward_data` takes `self` at v1.10
and `input_dtype` later.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

VOCABULARY, POSITIONS, SEGMENTS = 30_522, 512, 2
WIDTH, HEADS, LAYERS, INNER = 1024, 16, 24, 4096
DROPOUT, EPSILON, CLASSES = 0.1, 1e-12, 2
MASKED_SCORE = -10_000.0


class SoftmaxKeepingInput(torch.autograd.Function):
    """Softmax over the last dimension that saves its input as well as its output."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        """[..., S] -> [..., S]."""
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(scores, weights)
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Gradient of the scores."""
        scores, weights = ctx.saved_tensors
        return torch._softmax_backward_data(gradient, weights, -1, scores.dtype)


def old_softmax(scores: Tensor) -> Tensor:
    """Softmax of old PyTorch; autocast's cast to fp32 happens before it, so the cast copy is what is kept."""
    if torch.is_autocast_enabled("cuda"):
        scores = scores.float()
    return SoftmaxKeepingInput.apply(scores)


class SelfAttention(nn.Module):
    """Eager attention with the score matrix [B, H, S, S]."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    @staticmethod
    def _by_head(x: Tensor) -> Tensor:
        # [B, S, E] -> [B, H, S, D]
        return x.view(*x.shape[:2], HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, S, E] and an additive mask [B, 1, 1, S] -> [B, S, E]."""
        # Bound before it is viewed by head, and so alive to the end of the call.
        flat_query = self.query(x)
        key, value = self._by_head(self.key(x)), self._by_head(self.value(x))
        query = self._by_head(flat_query)
        scores = torch.matmul(query, key.transpose(-1, -2))
        scores = scores / math.sqrt(WIDTH // HEADS)
        scores = scores + mask
        weights = old_softmax(scores)
        weights = self.dropout(weights)
        context = torch.matmul(weights, value)
        # [B, H, S, D] -> [B, S, E]
        context = context.permute(0, 2, 1, 3).contiguous()
        context = context.view(*x.shape)
        return context


class Projection(nn.Module):
    """Linear, dropout, then LayerNorm of the residual sum."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """[B, S, inputs] and [B, S, E] -> [B, S, E]."""
        x = self.dense(x)
        x = self.dropout(x)
        x = self.norm(x + residual)
        return x


class Layer(nn.Module):
    """Post-norm attention and GELU MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.attention_output = SelfAttention(), Projection(WIDTH)
        self.intermediate, self.output = nn.Linear(WIDTH, INNER), Projection(INNER)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, S, E] -> [B, S, E]."""
        context = self.attention(x, mask)
        attended = self.attention_output(context, x)
        inner = self._activated(attended)
        result = self.output(inner, attended)
        return result

    def _activated(self, x: Tensor) -> Tensor:
        x = self.intermediate(x)
        x = F.gelu(x)
        return x


class Embeddings(nn.Module):
    """Words, segments and positions, normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.positions, self.segments = nn.Embedding(POSITIONS, WIDTH), nn.Embedding(SEGMENTS, WIDTH)
        self.norm, self.dropout = nn.LayerNorm(WIDTH, eps=EPSILON), nn.Dropout(DROPOUT)
        self.register_buffer("position_ids", torch.arange(POSITIONS).expand((1, -1)))
        self.register_buffer("segment_ids", torch.zeros(1, POSITIONS, dtype=torch.long))

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, S] -> [B, S, E]."""
        batch, tokens = token_ids.shape
        segment_ids = self.segment_ids[:, :tokens].expand(batch, tokens)
        by_word = self.words(token_ids)
        by_segment = self.segments(segment_ids)
        x = by_word + by_segment
        by_position = self.positions(self.position_ids[:, :tokens])
        x += by_position
        x = self.norm(x)
        x = self.dropout(x)
        return x


class BertClassifier(nn.Module):
    """24 layers, pooler and a two-class head."""

    def __init__(self, *, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.embeddings = Embeddings()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.pooler, self.classifier = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, token_ids: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of the class of each sequence [B, S]."""
        present = torch.ones(token_ids.shape, device=token_ids.device)
        # [B, S] -> [B, 1, 1, S]
        mask = (1.0 - present[:, None, None, :].to(torch.float32)) * MASKED_SCORE
        x = self.embeddings(token_ids)
        for layer in self.layers:
            x = checkpoint(layer, x, mask, use_reentrant=True) if self.checkpointing else layer(x, mask)
        pooled = torch.tanh(self.pooler(x[:, 0]))
        pooled = self.dropout(pooled)
        logits = self.classifier(pooled)
        return F.cross_entropy(logits.view(-1, CLASSES), labels.view(-1))
