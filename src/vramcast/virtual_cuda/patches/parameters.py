"""Parameters are virtual from birth: no host memory, and `.cuda()` takes PyTorch's own in-place path, so that ties survive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.storages import HOST, TRUE_META, DisableTorchFunction
from vramcast.virtual_cuda.values import remember_value

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

MAX_KNOWN_PARAMETER_ELEMENTS = 1024
"""Small parameters (scales, gates) keep their value; weights are not worth the host memory."""


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `nn.Parameter.__new__` and the check by which `Module._apply` decides to move in place."""
    original_new = torch.nn.Parameter.__new__
    original_compatible = torch._has_compatible_shallow_copy_type

    def new(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        if isinstance(data, torch.Tensor) and type(data) in (torch.Tensor, torch.nn.Parameter):
            data = _virtual_from_birth(machine, data)
        parameter = original_new(cls, data, requires_grad)
        if isinstance(parameter, torch.nn.Parameter):
            machine.categories.register_parameter(parameter)
            _carry_value(machine, data, parameter)
        return parameter

    def compatible(one: torch.Tensor, other: torch.Tensor) -> bool:
        # A true meta tensor has no data to exchange, as on real hardware; virtual host and CUDA are the same type inside.
        is_true_meta = [machine.storages.device_of(tensor) == TRUE_META for tensor in (one, other)]
        return is_true_meta[0] == is_true_meta[1] and original_compatible(one, other)

    patches.set(torch.nn.Parameter, "__new__", staticmethod(new))
    for lazy in (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer):
        patches.set(lazy, "__new__", staticmethod(_lazy_new(machine, lazy.__new__)))
    patches.set(torch, "_has_compatible_shallow_copy_type", compatible)


def _lazy_new(machine: VirtualGPU, original_new: Any) -> Any:
    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tensor = original_new(cls, *args, **kwargs)
        if machine.storages.device_of(tensor) is not None:
            return tensor
        with DisableTorchFunction(), torch.no_grad():
            data = machine.host_tensor((0,), tensor.dtype)
            return torch.Tensor._make_subclass(cls, data, tensor.requires_grad)

    return new


def _carry_value(machine: VirtualGPU, data: Any, parameter: torch.nn.Parameter) -> None:
    """A parameter is made of its data without an operator that would carry the known value over."""
    record = machine.storages.of(parameter)
    value = None if record is None else machine.value_of(data)
    if value is not None:
        remember_value(parameter, record, value)


def _virtual_from_birth(machine: VirtualGPU, data: torch.Tensor) -> torch.Tensor:
    if machine.storages.device_of(data) is not None:
        return data
    with DisableTorchFunction(), torch.no_grad():
        if data.device.type != "cpu" or data.layout != torch.strided:
            return data
        before, machine.forced_device = machine.forced_device, HOST
        try:
            virtual = torch.empty_strided(data.size(), data.stride(), dtype=data.dtype, device="meta")
        finally:
            machine.forced_device = before
        if data.numel() <= MAX_KNOWN_PARAMETER_ELEMENTS:
            remember_value(virtual, machine.storages.of_storage(virtual.untyped_storage()), data.detach().clone())
    return virtual
