"""Replacements for torch functions that read values: the known value where there is one, else a stated assumption."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vramcast.virtual_cuda.storages import TRUE_META, DisableTorchFunction, torch_device

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

T = torch.Tensor
HANDLERS: dict[Any, Callable[[VirtualGPU, Any, Any, dict[str, Any]], Any]] = {}
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "__bool__": bool,
    "is_nonzero": bool,
    "__float__": float,
    "__int__": int,
    "__index__": int,
    "__complex__": complex,
    "item": lambda value: value,
}


def _handles(*functions: Any) -> Callable[[Any], Any]:
    def register(handler: Any) -> Any:
        HANDLERS.update(dict.fromkeys(functions, handler))
        return handler

    return register


@_handles(T.item, T.__bool__, T.__float__, T.__int__, T.__index__, T.__complex__, torch.is_nonzero, T.is_nonzero)
def _scalar(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if machine.storages.device_of(tensor) in (None, TRUE_META):
        return func(*args, **kwargs)
    with DisableTorchFunction():
        elements = tensor.numel()
    if elements != 1:
        raise RuntimeError(f"a Tensor with {elements} elements cannot be converted to Scalar")
    return _CONVERSIONS[func.__name__](machine.read_scalar(tensor))


def _array(machine: VirtualGPU, tensor: T) -> np.ndarray[Any, Any]:
    """Content as an array: the known one, else zeros, which is reported."""
    with DisableTorchFunction():
        value = machine.value_of(tensor)
        dtype = torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype
        if value is not None:
            return value.detach().to(dtype).numpy()
        machine.assumptions.add_with_line(f"an unknown tensor of shape {tuple(tensor.shape)} was read as zeros")
        return np.zeros(tuple(tensor.shape), dtype=torch.empty(0, dtype=dtype).numpy().dtype)


@_handles(T.numpy, T.__array__)
def _numpy(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    device = machine.storages.device_of(args[0])
    if device is None:
        return func(*args, **kwargs)
    if device >= 0:
        raise TypeError(
            f"can't convert cuda:{device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return _array(machine, args[0])


@_handles(T.tolist)
def _tolist(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs) if machine.storages.device_of(args[0]) is None else _array(machine, args[0]).tolist()


@_handles(torch.equal, T.equal, torch.allclose, T.allclose)
def _equal(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    if all(machine.storages.device_of(tensor) is None for tensor in args[:2]):
        return func(*args, **kwargs)
    values = [machine.value_of(tensor) for tensor in args[:2]]
    if any(value is None for value in values):
        machine.assumptions.add_with_line("a comparison of unknown tensors was answered with False")
        return False
    with DisableTorchFunction():
        return func(*values, *args[2:], **kwargs)


@_handles(T.__format__)
def _format(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> str:
    if machine.storages.device_of(args[0]) is None:
        return func(*args, **kwargs)  # type: ignore[no-any-return]
    with DisableTorchFunction():
        scalar = args[0].dim() == 0
    return format(machine.read_scalar(args[0]), args[1]) if scalar else _repr(machine, func, args, kwargs)


@_handles(T.__repr__)
def _repr(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> str:
    device = machine.storages.device_of(args[0])
    if device is None:
        return func(*args, **kwargs)  # type: ignore[no-any-return]
    with DisableTorchFunction():
        return (
            f"tensor(<virtual>, shape={tuple(args[0].shape)}, dtype={args[0].dtype}, device='{torch_device(device)}')"
        )
