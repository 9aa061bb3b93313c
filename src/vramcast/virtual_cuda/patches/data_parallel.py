"""`nn.DataParallel`: what CUDA scatters, broadcasts and gathers between the GPUs of one process, as plain moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

Tensors = Sequence[torch.Tensor]


def install(patches: PatchSet) -> None:
    """Give `torch._C` the functions of `torch/csrc/cuda/comm.cpp`, and the one of `python_nccl.cpp` that sums gradients."""
    for function in (_scatter, _gather, _broadcast, _broadcast_coalesced, _nccl_reduce):
        patches.set(torch._C, function.__name__, function)


def _on(tensor: torch.Tensor, device: int) -> torch.Tensor:
    return tensor.to(torch.device("cuda", device))


def _scatter(
    tensor: torch.Tensor, devices: Sequence[int], chunk_sizes: Sequence[int] | None, dim: int, streams: object = None
) -> list[torch.Tensor]:
    chunks = tensor.split(list(chunk_sizes), dim) if chunk_sizes else tensor.chunk(len(devices), dim)
    return [_on(chunk, device) for chunk, device in zip(chunks, devices, strict=False)]


def _gather(tensors: Tensors, dim: int, destination: int | None = None) -> torch.Tensor:
    if destination == -1:
        return torch.cat([tensor.cpu() for tensor in tensors], dim)
    target = tensors[0].device.index if destination is None else destination
    return torch.cat([_on(tensor, target) for tensor in tensors], dim)


def _broadcast(tensor: torch.Tensor, devices: Sequence[int]) -> list[torch.Tensor]:
    return [_on(tensor, device) for device in devices]


def _broadcast_coalesced(tensors: Tensors, devices: Sequence[int], buffer_size: int) -> list[list[torch.Tensor]]:
    return [[_on(tensor, device) for tensor in tensors] for device in devices]


def _nccl_reduce(inputs: Tensors, output: torch.Tensor, root: int = 0, op: int = 0, *handles: object) -> None:
    """The sum arrives in a tensor that is there already; NCCL adds on the way."""
    output.copy_(inputs[root])
