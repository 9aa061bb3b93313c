"""Tokens per second of `vramcast gpt train` beside a plain loop of the same model, as a ratio, in one run.

    python benchmarks/training_throughput.py [--iters 30] [--rounds 3]

The plain loop is what one would write by hand: random blocks of a token array, forward, backward, clip, AdamW, nothing else. Both train
the guide's `tiny` with a small vocabulary on the CPU (or the GPU present). Rounds alternate and the fastest of each counts, so that
the ratio holds on a busy machine. Forecast, tokenizing, validation and checkpoints are not part of a step and are left out of both.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vramcast.gpt import train
from vramcast.gpt.settings import TrainSettings
from vramcast.models import load_model

VOCABULARY = 1024
TEXT = "the tape is replayed, a tensor is born and dies, and every peak is a maximum over instants. "
LEARNING_RATE = 3e-4


class Block(nn.Module):
    """Pre-norm attention and MLP, without biases."""

    def __init__(self, embedding: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(embedding, bias=False) for _ in range(2))
        self.qkv = nn.Linear(embedding, 3 * embedding, bias=False)
        self.out = nn.Linear(embedding, embedding, bias=False)
        self.up = nn.Linear(embedding, 4 * embedding, bias=False)
        self.down = nn.Linear(4 * embedding, embedding, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, E) -> (B, T, E)."""
        B, T, E = x.shape
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norms[0](x)).split(E, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.p if self.training else 0.0)
        x = x + self.drop(self.out(y.transpose(1, 2).reshape(B, T, E)))
        return x + self.drop(self.down(F.gelu(self.up(self.norms[1](x)))))


class PlainGPT(nn.Module):
    """The same sizes as the reference GPT."""

    def __init__(self, layers: int, heads: int, embedding: int, block: int, dropout: float) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, embedding), nn.Embedding(block, embedding)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(embedding, heads, dropout) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(embedding, bias=False), nn.Linear(embedding, VOCABULARY, bias=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The mean loss of predicting y."""
        positions = torch.arange(x.shape[1], device=x.device)
        hidden = self.blocks(self.drop(self.tokens(x) + self.positions(positions)))
        return F.cross_entropy(self.head(self.norm(hidden)).view(-1, VOCABULARY), y.view(-1))


def plain_tokens_per_second(iters: int, batch: int, device: str) -> float:
    """The loop by hand."""
    fields = load_model("tiny").fields
    block = fields["block_size"]
    data = np.random.default_rng(0).integers(0, VOCABULARY, 100_000)
    torch.manual_seed(0)
    model = PlainGPT(fields["n_layer"], fields["n_head"], fields["n_embd"], block, fields["dropout"]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    begin = time.perf_counter()
    for _ in range(iters):
        starts = torch.randint(len(data) - block, (batch,))
        x = torch.stack([torch.from_numpy(data[at : at + block]) for at in starts]).to(device)
        y = torch.stack([torch.from_numpy(data[at + 1 : at + 1 + block]) for at in starts]).to(device)
        loss = model(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    return iters * batch * block / (time.perf_counter() - begin)


def our_tokens_per_second(iters: int, batch: int, folder: Path) -> float:
    """`vramcast gpt train` on a text in bytes, its embedding as large as the plain loop's."""
    text = folder / "text.txt"
    text.write_text(TEXT * 1200, encoding="utf-8")
    settings = TrainSettings(
        name="m",
        input=text,
        config="tiny",
        models_dir=folder / "models",
        max_iters=iters,
        batch_size=batch,
        vocab_size=VOCABULARY,
        tokenizer="bytes",
        learning_rate=LEARNING_RATE,
        eval_interval=iters,
        eval_iters=1,
        resume=False,
    )
    speed = train(settings).tokens_per_second
    assert speed is not None
    return speed


def main() -> None:
    """Alternate both, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iters", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            plain.append(plain_tokens_per_second(given.iters, given.batch_size, device))
            ours.append(our_tokens_per_second(given.iters, given.batch_size, Path(folder)))
    best = {"plain_tokens_per_second": max(plain), "vramcast_tokens_per_second": max(ours)}
    print(json.dumps({**best, "ratio": max(ours) / max(plain), "device": device, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
