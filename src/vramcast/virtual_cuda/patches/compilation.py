"""`torch.compile` runs the code eagerly and says so: a compiler decides for itself what is kept, and cannot be followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

ASSUMPTION = "torch.compile was left out: the memory is that of eager mode"


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `torch.compile` and `Module.compile`."""

    def compile_(model: Any = None, **settings: Any) -> Any:
        machine.assumptions.add_with_line(ASSUMPTION)
        return model if model is not None else _as_decorator

    def compile_module(self: torch.nn.Module, *args: Any, **settings: Any) -> None:
        machine.assumptions.add_with_line(ASSUMPTION)

    patches.set(torch, "compile", compile_)
    patches.set(torch.nn.Module, "compile", compile_module)


def _as_decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
