"""PyTorch's own out-of-memory error, with true numbers, raised at the operator that does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vramcast.allocator.out_of_memory import AllocatorOutOfMemory
from vramcast.timeline import Allocation
from vramcast.units import format_bytes
from vramcast.virtual_cuda.source_lines import SourceLine

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A request that did not fit."""

    device: int
    allocation: Allocation
    """What was asked for."""
    line: SourceLine
    """Who asked; in backward the line of the forward operator whose gradient it is."""
    free_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    position: int
    """Events of the timeline before it."""
    optimizer_steps: int
    """Steps made before it."""


def torch_error(machine: VirtualGPU, device: int, error: AllocatorOutOfMemory) -> torch.OutOfMemoryError:
    """The error PyTorch raises on a full card, in its words (`CUDACachingAllocator.cpp`)."""
    allocated, reserved = error.allocated_bytes, error.reserved_bytes
    total, context = machine.gpu.cuda_total_bytes, machine.context_bytes()
    free = max((error.capacity_bytes or total) - reserved, 0)
    return torch.OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate {format_bytes(error.requested_bytes)}. GPU {device} has a total capacity of "
        f"{format_bytes(total)} of which {format_bytes(free)} is free. Including non-PyTorch memory, this process has "
        f"{format_bytes(reserved + context)} memory in use. Of the allocated memory {format_bytes(allocated)} is allocated by PyTorch, "
        f"and {format_bytes(reserved - allocated)} is reserved by PyTorch but unallocated. If reserved but unallocated memory is large "
        "try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
    )
