"""Pinning host memory does nothing: it takes no GPU memory, and needs a CUDA driver.

It is patched on the class and not answered by the function mode, because data loaders pin on a thread of their own, where no mode is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `Tensor.pin_memory` and `Tensor.is_pinned`."""

    def pin_memory(self: torch.Tensor, device: Any = None) -> torch.Tensor:
        return self

    def is_pinned(self: torch.Tensor, device: Any = None) -> bool:
        return False

    patches.set(torch.Tensor, "pin_memory", pin_memory)
    patches.set(torch.Tensor, "is_pinned", is_pinned)
