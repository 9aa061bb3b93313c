"""`torch.Generator("cuda")`: a CPU generator stands in, for no random number is drawn on a virtual GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the class `torch.Generator`; it stays one, because code asks `isinstance`."""
    original = torch.Generator

    class OfAnyDevice(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, original)

        def __call__(cls, device: Any = "cpu") -> torch.Generator:
            return original("cpu" if torch.device(device).type == "cuda" else device)

    class Generator(metaclass=OfAnyDevice):
        """Makes a generator that virtual operators accept and ignore."""

    patches.set(torch, "Generator", Generator)
