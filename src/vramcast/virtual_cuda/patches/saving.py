"""Virtual tensors have no data: nothing may be written that looks like a checkpoint.

`torch.save` of something that holds virtual tensors is left out and noted, so that training scripts go on; an existing file stays as it is.
safetensors reads memory by address, which a virtual tensor does not have, and is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from vramcast.errors import RecordingError
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `torch.save` and what safetensors reads tensors with."""
    save = torch.save

    def save_unless_virtual(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if any(_is_virtual(machine, leaf) for leaf in tree_leaves(obj)):
            machine.assumptions.add_with_line("torch.save was left out, for virtual tensors have no data,")
            return
        save(obj, f, *args, **kwargs)

    patches.set(torch, "save", save_unless_virtual)
    if find_spec("safetensors") is not None:
        _refuse_safetensors(machine, patches)


def _is_virtual(machine: VirtualGPU, leaf: Any) -> bool:
    if isinstance(leaf, torch.nn.Module):
        return any(machine.storages.of(tensor) is not None for tensor in leaf.state_dict().values())
    return isinstance(leaf, torch.Tensor) and machine.storages.of(leaf) is not None


def _refuse_safetensors(machine: VirtualGPU, patches: PatchSet) -> None:
    module = importlib.import_module("safetensors.torch")
    # Every way of saving goes through one of these, by release; code may have imported the public functions already.
    for name in ("_flatten_as_ptr", "_flatten"):
        if hasattr(module, name):
            patches.set(module, name, _checked(machine, getattr(module, name)))


def _checked(machine: VirtualGPU, flatten: Callable[..., Any]) -> Callable[..., Any]:
    def flatten_real(tensors: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        for name, tensor in tensors.items():
            if _is_virtual(machine, tensor):
                raise RecordingError(
                    f"safetensors cannot save {name}: a virtual tensor has no data. Leave saving out of a dry run."
                )
        return flatten(tensors, *args, **kwargs)

    return flatten_real
