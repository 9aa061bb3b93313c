"""What the tests of distributed runs share: one simulated rank, a small model, and its bytes by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from virtual_gpu_helpers import virtual_gpu

from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.patches.distributed_environment import distributed_environment

WIDTH, INNER = 128, 512
"""Multiples of 128: a tensor of them fills whole blocks of 512 bytes, also a slice of it over 64 ranks."""


class Block(nn.Module):
    def __init__(self, width: int = WIDTH, inner: int = INNER) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(x)))


def small_model(blocks: int = 3, width: int = WIDTH, inner: int = INNER) -> nn.Sequential:
    return nn.Sequential(*(Block(width, inner) for _ in range(blocks)))


@contextmanager
def one_rank(world_size: int, rank: int = 0, initialize: bool = True, **settings: object) -> Iterator[VirtualGPU]:
    """A virtual GPU in a process that is one of `world_size`, with its process group made."""
    with distributed_environment(world_size, rank), virtual_gpu(**settings) as machine:
        if initialize:
            torch.distributed.init_process_group("nccl")
        yield machine


def rounded(nbytes: int) -> int:
    """Bytes of a block of the caching allocator."""
    return -(-nbytes // 512) * 512


def padded_shards(shapes: Iterable[torch.Size], world_size: int) -> list[int]:
    """Elements of one rank's part of each parameter: rows divided by ranks, rounded up."""
    return [-(-shape[0] // world_size) * shape[1:].numel() for shape in shapes]


def live_by_category(machine: VirtualGPU) -> dict[str, int]:
    machine.categories.settle()
    totals: dict[str, int] = {}
    for index in machine.timeline.live_at(len(machine.timeline.events)):
        allocation = machine.timeline.allocations[index]
        totals[allocation.category] = totals.get(allocation.category, 0) + rounded(allocation.nbytes)
    return totals


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, width: int = WIDTH) -> None:
    """Forward, backward and, if there is an optimizer, its step; the gradients stay."""
    model(torch.randn(2, 16, width, device="cuda")).sum().backward()
    if optimizer is not None:
        optimizer.step()
