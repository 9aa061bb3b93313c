"""What a collective leaves in its outputs, as far as it is known.

One rank is simulated. Every other rank is taken to hold what this one holds, so a known value stays known: a gathered batch size is this
rank's, as often as there are ranks; a sum is this rank's value times the number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import ReduceOp

from vramcast.virtual_cuda.storages import DisableTorchFunction, raw_is_meta
from vramcast.virtual_cuda.values import remember_value

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

_UNCHANGED_BY_EQUALS = (ReduceOp.AVG, ReduceOp.MIN, ReduceOp.MAX, ReduceOp.BAND, ReduceOp.BOR)


def reduced(value: torch.Tensor | None, op: Any, size: int) -> torch.Tensor | None:
    """The reduction of `size` equal values, or None where it is unknown."""
    if value is None:
        return None
    # `in` would ask the kind whether it equals the operation, which it denies; only the other way round holds.
    unchanged = any(op == kind for kind in _UNCHANGED_BY_EQUALS)
    if unchanged or value.dtype == torch.bool:  # NCCL sums booleans as a maximum
        return value.clone()
    with DisableTorchFunction():
        if op == ReduceOp.SUM:
            return value * size
        return value**size if op == ReduceOp.PRODUCT else None


def repeated(value: torch.Tensor | None, size: int, shape: torch.Size) -> torch.Tensor | None:
    """`size` equal values one after another, in the shape of the gathered tensor."""
    if value is None:
        return None
    with DisableTorchFunction():
        return torch.cat([value.reshape(-1)] * size).reshape(shape)


def write(machine: VirtualGPU, tensors: Sequence[torch.Tensor], values: Sequence[torch.Tensor | None]) -> None:
    """Give the outputs of a collective their new content; None is unknown."""
    # All are forgotten before any is remembered: they may be slices of one storage, which forgets as a whole.
    for tensor in tensors:
        record = machine.storages.of(tensor)
        if record is not None:
            record.forget_values()
    for tensor, value in zip(tensors, values, strict=True):
        if value is not None:
            _remember(machine, tensor, value)


def _remember(machine: VirtualGPU, tensor: torch.Tensor, value: torch.Tensor) -> None:
    with DisableTorchFunction(), torch.no_grad():
        if not raw_is_meta(tensor):
            tensor.copy_(value)
        elif value.numel() <= machine.max_known_elements:
            record = machine.storages.of(tensor)
            remember_value(tensor, record, value.detach().to(tensor.dtype).reshape(tensor.shape))
