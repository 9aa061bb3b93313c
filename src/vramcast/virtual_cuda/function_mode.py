"""Sees Python-level torch calls: a call that names a CUDA device is sent to `meta` and its result tagged.

Everything else (autocast, attention, dropout) is decided in the dispatcher layer; this mode only answers questions of devices, moves
and values. `HANDLERS` maps a torch function to what replaces it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from vramcast.virtual_cuda import device_functions, value_functions
from vramcast.virtual_cuda.cuda_kernels.layer import AUTOCAST_KEY, CUDA_CHOICE_KEY
from vramcast.virtual_cuda.devices import CPU, parse_device
from vramcast.virtual_cuda.machine_lock import MACHINE_LOCK
from vramcast.virtual_cuda.storages import HOST, TRUE_META

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

_ALL_KEYS = torch._C.DispatchKeySet(AUTOCAST_KEY) | torch._C.DispatchKeySet(CUDA_CHOICE_KEY)
HANDLERS: dict[Any, Any] = {**device_functions.HANDLERS, **value_functions.HANDLERS}

FACTORIES = frozenset(
    getattr(torch, name)
    for name in (
        "empty zeros ones full arange range rand randn randint randperm linspace logspace eye empty_strided empty_permuted "
        "tril_indices triu_indices scalar_tensor"
    ).split()
)


class DeviceFunctionMode(TorchFunctionMode):
    """Rewrites devices and answers for virtual tensors."""

    is_on = False
    """A thread may outlive the virtual GPU with the mode still on; then it only passes on."""

    def __init__(self, machine: VirtualGPU) -> None:
        super().__init__()
        self.machine = machine

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.is_on:
            with torch._C._ExcludeDispatchKeyGuard(_ALL_KEYS):
                return func(*args, **kwargs)
        with MACHINE_LOCK:
            return self._answer(func, args, kwargs)

    def _answer(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        handler = HANDLERS.get(func)
        if handler is not None:
            return handler(self.machine, func, args, kwargs)
        device = kwargs.get("device")
        if device is None:
            if self.machine.default_device is not None and func in FACTORIES:
                return self._on(self.machine.default_device, func, args, kwargs)
            if kwargs.get("pin_memory"):
                kwargs = {**kwargs, "pin_memory": False}
            return func(*args, **kwargs)
        return self._with_device(device, func, args, kwargs)

    def _with_device(self, device: Any, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        target = parse_device(device, self.machine.current_device)
        if target is None:
            return func(*args, **kwargs)
        if target == CPU:
            if any(isinstance(arg, torch.Tensor) and self.machine.storages.device_of(arg) is not None for arg in args):
                return self._on(HOST, func, args, kwargs)
            return func(*args, **{key: value for key, value in kwargs.items() if key != "pin_memory"})
        return self._on(target, func, args, kwargs)

    def _on(self, target: int, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run `func` on meta; what it makes is tagged `target`."""
        machine = self.machine
        kwargs = {key: value for key, value in kwargs.items() if key not in ("pin_memory", "non_blocking")}
        kwargs["device"] = torch.device("meta")
        if kwargs.get("generator") is not None:
            kwargs["generator"] = None
        before = machine.forced_device, machine.factory_device
        has_source = target != TRUE_META and any(isinstance(arg, torch.Tensor) for arg in args)
        machine.forced_device, machine.factory_device = (target if has_source else None), target
        try:
            return func(*args, **kwargs)
        finally:
            machine.forced_device, machine.factory_device = before
