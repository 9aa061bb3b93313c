"""The five figures of the guide "Transformer Memory Requirements" (2022), forecast by today's code and by the code of its time.

The guide ran Hugging Face's GPT-2 (eager attention, dropout 0.1, T = 1024, AdamW) and read the GPU's memory, context included. It names
neither GPU nor versions. `python -m validation.seed_001` prints both forecasts beside its figures.

What the code of its time does differently, each a default of a release and none fitted:

* gradients survive `zero_grad` (the default was `set_to_none=False` before PyTorch 2.0), so they are alive in forward;
* AdamW is a loop over parameters (foreach became the default on CUDA in PyTorch 2.0);
* the loss reads `logits[..., :-1, :].contiguous()`, a copy, in the logits' own dtype (transformers 4.x); today's code pads the labels and
  casts the logits to fp32;
* the CUDA context holds all of PyTorch's kernels: lazy loading came with CUDA 11.7 (PyTorch 1.13).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

import vramcast
from vramcast.hardware import find_gpu
from vramcast.models import load_model
from vramcast.record.building import autocast_region
from vramcast.units import GB
from vramcast.virtual_cuda import VirtualGPU

SEQUENCE_LENGTH = 1024
STEPS = 3
GPU = "v100-32gb"
EAGER_LOADING_CONTEXT_BYTES = 1_000_000_000
"""Context of CUDA before 11.7, every kernel loaded at start: "over 1000 MB", https://github.com/pytorch/pytorch/issues/107667."""


@dataclass(frozen=True, slots=True)
class Case:
    """One figure of the guide, in the 1e9 bytes it counts in."""

    model: str
    batch_size: int
    precision: str
    measured_bytes: int


CASES = (
    Case("gpt2", 8, "fp32", round(27.5 * GB)),
    Case("gpt2", 1, "fp32", round(6.1 * GB)),
    Case("gpt2-medium", 1, "fp32", round(13.4 * GB)),
    Case("gpt2", 8, "amp-fp16", round(21.8 * GB)),
    Case("gpt2", 1, "amp-fp16", round(5.8 * GB)),
)


class Conv1D(nn.Module):
    """A linear layer with its weight stored as (in, out), as GPT-2 has it."""

    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features_in, features_out))
        self.bias = nn.Parameter(torch.zeros(features_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


class Attention2022(nn.Module):
    """GPT-2's attention with its causal mask as a buffer, applied by `torch.where`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = Conv1D(width, 3 * width), Conv1D(width, width)
        self.attention_dropout, self.residual_dropout = nn.Dropout(0.1), nn.Dropout(0.1)
        self.register_buffer(
            "mask", torch.tril(torch.ones(SEQUENCE_LENGTH, SEQUENCE_LENGTH, dtype=torch.uint8))[None, None]
        )
        self.register_buffer("masked_value", torch.tensor(-1e4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, E) -> (B, T, E)."""
        batch, tokens, width = x.shape
        query, key, value = (
            part.view(batch, tokens, self.heads, -1).permute(0, 2, 1, 3) for part in self.qkv(x).split(width, dim=2)
        )
        weights = torch.matmul(query, key.transpose(-1, -2)) / (value.size(-1) ** 0.5)  # (B, H, T, T)
        weights = torch.where(self.mask[:, :, :tokens, :tokens].bool(), weights, self.masked_value.to(weights.dtype))
        weights = self.attention_dropout(F.softmax(weights, dim=-1).type(value.dtype))
        merged = torch.matmul(weights, value).permute(0, 2, 1, 3).contiguous().view(batch, tokens, width)
        return self.residual_dropout(self.out(merged))


class Block2022(nn.Module):
    """Pre-norm block with the composed GELU (`gelu_new`)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention2022(width, heads)
        self.up, self.down, self.dropout = Conv1D(width, 4 * width), Conv1D(4 * width, width), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, E) -> (B, T, E)."""
        x = self.attention(self.norm_1(x)) + x
        h = self.up(self.norm_2(x))
        h = 0.5 * h * (1.0 + torch.tanh(0.7978845608028654 * (h + 0.044715 * torch.pow(h, 3.0))))
        return x + self.dropout(self.down(h))


class GPT2Of2022(nn.Module):
    """GPT-2 with tied head and the loss of transformers 4.x."""

    def __init__(self, layers: int, heads: int, width: int, vocab_size: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(SEQUENCE_LENGTH, width)
        self.dropout, self.norm = nn.Dropout(0.1), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block2022(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (B, T) -> scalar loss."""
        x = self.dropout(self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))  # (B, T, V)
        shifted = logits[..., :-1, :].contiguous()
        return F.cross_entropy(shifted.view(-1, shifted.size(-1)), ids[..., 1:].contiguous().view(-1))


def device_used_2022(case: Case) -> int:
    """Reserved bytes of the training loop of the time plus the context of the time."""
    sizes = load_model(case.model).dimensions
    with VirtualGPU(find_gpu(GPU), record=False, torch_version="2.0.0") as machine:
        model = (
            GPT2Of2022(sizes.num_hidden_layers, sizes.num_attention_heads, sizes.hidden_size, sizes.vocab_size)
            .to("cuda")
            .train()
        )
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        scaler = torch.amp.GradScaler("cuda", enabled=case.precision == "amp-fp16")
        for _ in range(STEPS):
            ids = machine.host_tensor((case.batch_size, SEQUENCE_LENGTH), torch.long).to("cuda")
            with autocast_region(case.precision):
                loss = model(ids)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=False)
    return machine.peak_reserved_bytes + EAGER_LOADING_CONTEXT_BYTES


def device_used_today(case: Case) -> int:
    """What the command line forecasts for the same job with today's libraries."""
    forecast = vramcast.training(
        case.model,
        batch_size=case.batch_size,
        sequence_length=SEQUENCE_LENGTH,
        precision=case.precision,
        attention="eager",
        gpu=GPU,
    )
    return forecast.device_used_bytes


def mean_absolute_error(forecasts: list[int]) -> float:
    """Mean of |forecast / measured - 1| over the five cases."""
    return sum(abs(forecast / case.measured_bytes - 1) for forecast, case in zip(forecasts, CASES, strict=True)) / len(
        CASES
    )


def main() -> None:
    """Print both forecasts beside the guide's figures."""
    then, today = [device_used_2022(case) for case in CASES], [device_used_today(case) for case in CASES]
    table = Table(
        "model", "batch", "precision", "measured GB", "code of 2022", "error", "today's code", "error", box=None
    )
    for case, old, new in zip(CASES, then, today, strict=True):
        errors = [f"{forecast / case.measured_bytes - 1:+.1%}" for forecast in (old, new)]
        figures = [f"{value / GB:.2f}" for value in (case.measured_bytes, old, new)]
        table.add_row(
            case.model, str(case.batch_size), case.precision, figures[0], figures[1], errors[0], figures[2], errors[1]
        )
    Console().print(table)
    Console().print(
        f"mean absolute error: code of 2022 {mean_absolute_error(then):.2%}, today's code {mean_absolute_error(today):.2%}"
    )


if __name__ == "__main__":
    main()
