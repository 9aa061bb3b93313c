"""PyTorch's profiler runs without its CUDA half, which would look for a driver at every operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

ASSUMPTION = "the profiler shows the CPU only: kernels of a virtual GPU take no time"


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the constructor of `torch.autograd.profiler.profile`, which `torch.profiler` uses too."""
    kind = torch.autograd.profiler.profile
    original = kind.__init__

    def init(self: Any, *args: Any, **settings: Any) -> None:
        if settings.get("use_device") == "cuda" or settings.get("use_cuda"):
            machine.assumptions.add_once(ASSUMPTION)
            settings = {**settings, "use_device": None, "use_cuda": False}
        original(self, *args, **settings)

    patches.set(kind, "__init__", init)
