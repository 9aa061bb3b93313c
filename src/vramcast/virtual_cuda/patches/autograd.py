"""The function mode is put back while the autograd engine and saved-tensor hooks run Python code.

Calling any torch function inside `__torch_function__` takes the mode off. `loss.backward()` is such a function, so without this all
Python that the engine runs (checkpoint's recomputation, custom `Function.backward`, hooks) would see `meta` instead of `cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.autograd.graph
import torch.nn.functional as F
from torch.overrides import _get_current_function_mode_stack

from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Wrap the engine's entry, the saved-tensor hooks and the autocast cache's end."""
    run_engine = torch.autograd.graph._engine_run_backward

    def run_backward(*args: Any, **kwargs: Any) -> Any:
        with machine.backward_pass():
            return with_mode(machine, run_engine)(*args, **kwargs)

    patches.set(torch.autograd.graph, "_engine_run_backward", run_backward)
    patches.set(torch.autograd, "_engine_run_backward", run_backward)

    hooks = torch.autograd.graph.saved_tensors_hooks
    original_init = hooks.__init__

    def init(self: Any, pack_hook: Callable[..., Any], unpack_hook: Callable[..., Any]) -> None:
        original_init(self, with_mode(machine, pack_hook), with_mode(machine, unpack_hook))

    patches.set(hooks, "__init__", init)

    clear_cache = torch.clear_autocast_cache

    def clear_autocast_cache() -> None:
        machine.autocast_weights.clear()
        clear_cache()

    patches.set(torch, "clear_autocast_cache", clear_autocast_cache)
    # Functional wrappers would hand themselves over whole and run with the mode off; only the C-level calls in them should be seen.
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
        patches.set(F, name, lambda *args: False)


def with_mode(machine: VirtualGPU, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the device mode on top, whatever the caller had taken off."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if machine.function_mode in _get_current_function_mode_stack():
            return function(*args, **kwargs)
        with torch._C._EnableTorchFunction(), machine.function_mode:
            return function(*args, **kwargs)

    return run
