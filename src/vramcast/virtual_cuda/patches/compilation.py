"""`torch.compile` runs the code eagerly and says so: a compiler decides for itself what is kept, and cannot be followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

ASSUMPTION = "torch.compile was left out: the memory is that of eager mode"


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `torch.compile`, `Module.compile` and what resets the compiler."""
    compiled: WeakSet[torch.nn.Module] = WeakSet()

    def compile_(model: Any = None, **settings: Any) -> Any:
        machine.assumptions.add_with_line(ASSUMPTION)
        if isinstance(model, torch.nn.Module):
            compiled.add(model)
        return model if model is not None else _as_decorator

    def compile_module(self: torch.nn.Module, *args: Any, **settings: Any) -> None:
        machine.assumptions.add_with_line(ASSUMPTION)

    patches.reach_importers(torch.compile, compile_)
    patches.set(torch, "compile", compile_)
    patches.set(torch.nn.Module, "compile", compile_module)
    patches.set(torch.nn.Module, "_orig_mod", _OriginalModule(compiled))
    for module in (torch._dynamo, torch.compiler):
        patches.set(module, "reset", lambda: None)  # this and the next would look for CUDA's graphs
    patches.set(torch.compiler, "cudagraph_mark_step_begin", lambda: None)


class _OriginalModule:
    """Code asks a compiled module for the one inside. No `property`, because TorchScript compiles those."""

    def __init__(self, compiled: WeakSet[torch.nn.Module]) -> None:
        self._compiled = compiled

    def __get__(self, module: torch.nn.Module | None, kind: type) -> Any:
        if module in self._compiled:
            return module
        raise AttributeError(f"'{kind.__name__}' object has no attribute '_orig_mod'")


def _as_decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
