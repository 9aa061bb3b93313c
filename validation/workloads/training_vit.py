"""ViT-L/16 fine-tuned on CIFAR-10 at 224 x 224: the first six scripts of a collection of memory savers, of June 2023.

torchvision's Vision Transformer written anew with the same operators. The scripts keep the reserved peak of one epoch of training and a
validation pass. Fabric's 16-mixed is fp16 autocast around the forward with a gradient scaler, bf16-true casts the model and the images.

Source: github.com/rasbt/pytorch-memory-optim at f6eddcd2, 01_pytorch-vit.py to 06_sgd-with-scheduler.py; torchvision 0.15,
models/vision_transformer.py; lightning 2.1, fabric/plugins/precision.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from validation.workloads.result import WorkloadResult, result_of
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

GPU = "a100-40gb"
TORCH_VERSION = "2.1.0"
NOTES = (
    "The card is not named (an A100 of 40 GB is taken). The attention kernel of 2023 is written out here: it explains 0.7 of the 0.9 GiB "
    "that fp16 and bf16 runs lie above a forecast with today's; the rest, 10 to 30 tensors of the size of the hidden states, nobody found."
)
WIDTH, LAYERS, HEADS, INNER, CLASSES = 1024, 24, 16, 4096, 10
IMAGE, PATCH = 224, 16
TOKENS = (IMAGE // PATCH) ** 2 + 1
STEPS, ACCUMULATED = 4, 4
"""Steps of equal shapes repeat the memory of the ones before."""


class PackedFlash(torch.autograd.Function):
    """FlashAttention 1, which PyTorch had until 2.1: it works on tokens [B * T, H, D] of the whole batch, one after another.

    Queries of `nn.MultiheadAttention` lie token by token, so they, keys and values are copied; so is the gradient. Its result is laid out
    anew and not like the queries, so the projection after it copies it once more, and both copies are kept for backward.
    """

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B, H, T, D], three times, to the same."""
        batch, heads, tokens, _ = query.shape
        copies = [_packed(each) for each in (query, key, value)]
        mixed = torch.empty_like(copies[0])
        sums = query.new_empty(batch, heads, -(-tokens // 16) * 16, dtype=torch.float32)
        result = mixed.view(batch, tokens, heads, -1).transpose(1, 2)
        context.save_for_backward(query, key, value, result, sums)
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Gradients of queries, keys and values."""
        query, key, value, result, sums = context.saved_tensors
        batch, heads, tokens, _ = query.shape
        copies = [_packed(each) for each in (gradient, query, key, value, result)]
        gradients = [torch.empty_like(copy) for copy in copies[1:4]]
        products = torch.empty_like(sums)
        del products
        return tuple(each.view(batch, tokens, heads, -1).transpose(1, 2) for each in gradients)


def _packed(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])


class Attention(nn.Module):
    """`nn.MultiheadAttention` with the batch first, which works with the tokens first."""

    def __init__(self) -> None:
        super().__init__()
        self.joined, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        batch, tokens, _ = x.shape
        joined = self.joined(x.transpose(1, 0))
        joined = joined.unflatten(-1, (3, WIDTH)).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous()
        # [T, B, E] -> [B, H, T, D]
        query, key, value = (
            joined[i].view(tokens, batch * HEADS, -1).transpose(0, 1).view(batch, HEADS, tokens, -1) for i in range(3)
        )
        if query.dtype == torch.float32:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = PackedFlash.apply(query, key, value)
        mixed = mixed.permute(2, 0, 1, 3).contiguous().view(batch * tokens, WIDTH)
        mixed = self.output(mixed).view(tokens, batch, WIDTH)
        return mixed.transpose(1, 0)


class Block(nn.Module):
    """Pre-norm attention and an MLP; all dropouts are there with p = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.attention = Attention()
        self.dropout = nn.Dropout(0.0)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, INNER), nn.GELU(), nn.Dropout(0.0), nn.Linear(INNER, WIDTH), nn.Dropout(0.0)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, E] -> [B, T, E]."""
        x = self.norm1(tokens)
        x = self.attention(x)
        x = self.dropout(x)
        x = x + tokens
        y = self.norm2(x)
        y = self.mlp(y)
        return x + y


class VisionTransformer(nn.Module):
    """Patches by a convolution, a class token, learned positions; the head reads the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.positions = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.dropout = nn.Dropout(0.0)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, CLASSES)

    def encode(self, x: Tensor) -> Tensor:
        """[B, T, E] -> the same; the caller holds on to what goes in."""
        x = x + self.positions
        return self.norm(self.blocks(self.dropout(x)))

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, 224, 224] -> logits [B, 10]."""
        count = images.shape[0]
        x = self.patches(images)
        # [B, E, 14, 14] -> [B, 196, E]
        x = x.reshape(count, WIDTH, TOKENS - 1)
        x = x.permute(0, 2, 1)
        first = self.class_token.expand(count, -1, -1)
        x = torch.cat([first, x], dim=1)
        x = self.encode(x)
        x = x[:, 0]
        x = self.head(x)
        return x


class AdamOf2023(torch.optim.Adam):
    """Over lists, as PyTorch 2.0 and 2.1 stepped: epsilon is added to a copy, so two lists as large as the weights are alive at once."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step without weight decay."""
        (group,) = self.param_groups
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["mean"] = torch.zeros_like(parameter)
                self.state[parameter]["square"] = torch.zeros_like(parameter)
        means, squares = ([self.state[parameter][name] for parameter in parameters] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 0.1)
        torch._foreach_mul_(squares, 0.999)
        torch._foreach_addcmul_(squares, gradients, gradients, 0.001)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, 1.0)
        divisors = torch._foreach_add(roots, 1e-8)
        torch._foreach_addcdiv_(parameters, means, divisors, -5e-5)


class Run:
    """One script."""

    def __init__(self, machine: VirtualGPU, row: dict[str, Any]) -> None:
        self.machine, self.batch_size = machine, row["batch_size"]
        self.dtype = torch.bfloat16 if row["weight_dtype"] == "bf16" else torch.float32
        self.mixed = row["precision_mode"] == "amp_fp16"
        self.accumulates = self.batch_size < ACCUMULATED * 4
        self.model = VisionTransformer().to(self.dtype).to("cuda")
        optimizer = torch.optim.SGD if row["optimizer"].startswith("SGD") else AdamOf2023
        self.optimizer = optimizer(self.model.parameters(), lr=5e-5)
        self.scaler = torch.amp.GradScaler("cuda") if self.mixed else None

    def autocast(self) -> AbstractContextManager[Any]:
        """Around the forward alone."""
        return torch.autocast("cuda", torch.float16) if self.mixed else nullcontext()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Images in the precision of the model, and their labels."""
        images = self.machine.host_tensor((self.batch_size, 3, IMAGE, IMAGE), torch.float32).to("cuda")
        labels = self.machine.host_tensor((self.batch_size,), torch.long).to("cuda")
        return images, labels

    def forward(self, images: Tensor) -> Tensor:
        """Fabric casts inputs to the model's dtype and outputs back to fp32."""
        with self.autocast():
            logits = self.model(images.to(self.dtype))
        return logits.float() if self.dtype != torch.float32 or self.mixed else logits

    def train(self) -> None:
        """Names of one step live until those of the next take their place."""
        for step in range(STEPS * (ACCUMULATED if self.accumulates else 1)):
            images, labels = self.batch()
            logits = self.forward(images)
            loss = F.cross_entropy(logits, labels)
            if self.accumulates:
                loss = loss / ACCUMULATED
            else:
                self.optimizer.zero_grad()
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            if not self.accumulates:
                self.update()
            elif step % ACCUMULATED == 0:
                self.update()
                self.optimizer.zero_grad()
            torch.argmax(logits, 1)
        self.model.eval()
        with torch.no_grad():
            for _ in range(2):
                images, labels = self.batch()
                logits = self.forward(images)

    def update(self) -> None:
        """A step, of the scaler where there is one."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


def forecast_run(row: dict[str, Any]) -> WorkloadResult:
    """Peaks of one script."""
    with VirtualGPU(find_gpu(GPU), torch_version=TORCH_VERSION, record=False) as machine:
        Run(machine, row).train()
        return result_of(machine, NOTES)


WORKLOADS = {f"rasbtvit-00{number}": forecast_run for number in range(1, 7)}
