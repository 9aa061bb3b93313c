"""`torch.cuda.FloatTensor` and its sisters: old code makes tensors with them and asks `isinstance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

_NAMES = "BFloat16Tensor BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor ShortTensor"


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the tensor types of `torch.cuda`."""
    for name in _NAMES.split():
        dtype = getattr(torch, name).dtype
        patches.set(torch.cuda, name, _tensor_type(machine, name, dtype))


def _tensor_type(machine: VirtualGPU, name: str, kind: torch.dtype) -> type:
    class OfOneDtype(type):
        dtype = kind

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, torch.Tensor) and instance.dtype == kind and machine.is_on_gpu(instance)

        def __call__(cls, *arguments: Any) -> torch.Tensor:
            if arguments and not isinstance(arguments[0], (int, torch.Size)):
                return torch.tensor(arguments[0], dtype=kind, device="cuda")
            return torch.empty(*arguments or (0,), dtype=kind, device="cuda")

    made = OfOneDtype(name, (), {"__doc__": f"Makes CUDA tensors of {kind}."})
    made.__module__ = "torch.cuda"
    return made
