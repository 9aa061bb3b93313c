"""Replacements for torch functions that ask where a tensor is or move it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from vramcast.virtual_cuda.devices import CPU, parse_device
from vramcast.virtual_cuda.saved.locations import tensor_in_storage
from vramcast.virtual_cuda.storages import HOST, TRUE_META, DisableTorchFunction, torch_device
from vramcast.virtual_cuda.values import ATTRIBUTE, remember_value

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

T = torch.Tensor
Handler = Callable[["VirtualGPU", Any, Any, dict[str, Any]], Any]
HANDLERS: dict[Any, Handler] = {}


def handles(*functions: Any) -> Callable[[Handler], Handler]:
    """Register a replacement for torch functions; a second one for the same function is an error."""

    def register(handler: Handler) -> Handler:
        for function in functions:
            if function in HANDLERS:
                raise KeyError(f"{function} has a replacement already")
            HANDLERS[function] = handler
        return handler

    return register


@handles(T.device.__get__)
def _device(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    device = machine.storages.device_of(args[0])
    return func(*args) if device is None else torch_device(device)


@handles(torch.device)
def _named_device(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> torch.device:
    return torch.device(*_numbers_named(args), **kwargs)


@handles(torch._C._nn._parse_to)  # what `Module.to` reads its arguments with
def _parse_to(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*_numbers_named(args), **kwargs)


def _numbers_named(args: Any) -> Any:
    """A bare number is that of an accelerator, which torch itself would look for."""
    return (torch.device("cuda", args[0]), *args[1:]) if args and type(args[0]) is int else args


@handles(T.is_cuda.__get__)  # type: ignore[attr-defined]
def _is_cuda(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> bool:
    return machine.is_on_gpu(args[0])


@handles(T.is_meta.__get__)  # type: ignore[attr-defined]
def _is_meta(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> bool:
    return machine.storages.device_of(args[0]) == TRUE_META


@handles(T.is_cpu.__get__)  # type: ignore[attr-defined]
def _is_cpu(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    device = machine.storages.device_of(args[0])
    return func(*args) if device is None else device == HOST


@handles(T.get_device)
def _get_device(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    device = machine.storages.device_of(args[0])
    return func(*args) if device is None else max(device, -1)


@handles(T.share_memory_)
def _share_memory(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    return args[0] if machine.storages.device_of(args[0]) is not None else func(*args, **kwargs)


@handles(T.data_ptr)
def _data_ptr(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    record = machine.storages.of(args[0])
    if record is None:
        return func(*args, **kwargs)
    with DisableTorchFunction():
        tensor = args[0]
        return (
            0
            if tensor.numel() == 0
            else machine.device_memory.address_of(record) + tensor.storage_offset() * tensor.element_size()
        )


def move(
    machine: VirtualGPU,
    tensor: T,
    target: int,
    dtype: torch.dtype | None = None,
    copy: bool = False,
    memory_format: Any = None,
) -> T:
    """`tensor` on `target`, differentiably, as `.to` does it: the same object where nothing changes."""
    current = machine.storages.device_of(tensor)
    dtype = dtype or tensor.dtype
    if current == TRUE_META and target != TRUE_META:
        raise NotImplementedError(
            "Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of torch.nn.Module.to() "
            "when moving module from meta to a different device."
        )
    formats = {} if memory_format is None else {"memory_format": memory_format}
    if current == target:
        return tensor.to(dtype, copy=copy, **formats)
    if is_lazy(tensor):
        return _uninitialised(machine, tensor, target, dtype)
    if current is not None and current >= 0 and target == HOST:
        machine.device_memory.host_waits_for_stream(machine.current_stream)
    before = machine.forced_device, machine.operator_label
    machine.forced_device = target
    machine.operator_label = "copy_from_host" if target >= 0 else None
    try:
        if current is None:
            return _upload(machine, tensor, target, dtype, formats)
        moved = tensor.to(dtype, copy=True, **formats)
        value = machine.value_of(tensor)
        if value is not None:
            with DisableTorchFunction():
                remember_value(moved, machine.storages.of_storage(moved.untyped_storage()), value.to(dtype, copy=True))
        return moved
    finally:
        machine.forced_device, machine.operator_label = before


def _uninitialised(machine: VirtualGPU, tensor: T, target: int, dtype: torch.dtype) -> T:
    """A tensor of a lazy module keeps its class, by which the module knows that it has no shape yet."""
    before, machine.forced_device = machine.forced_device, target
    try:
        with DisableTorchFunction(), torch.no_grad():
            data = torch.empty(0, dtype=dtype, device="meta")
            return T._make_subclass(type(tensor), data, tensor.requires_grad)
    finally:
        machine.forced_device = before


def _upload(machine: VirtualGPU, tensor: T, target: int, dtype: torch.dtype, formats: dict[str, Any]) -> T:
    """A real CPU tensor becomes virtual; its content stays known if it is small."""
    if tensor.requires_grad and not tensor.is_leaf:
        raise NotImplementedError(
            "a real CPU tensor that is part of an autograd graph cannot be moved to a virtual GPU; create it on the GPU"
        )
    if tensor.requires_grad:
        machine.assumptions.add_with_line(
            "a real CPU leaf was moved to the GPU: its copy is taken as the leaf, and keeps the gradient there,"
        )
    with DisableTorchFunction(), torch.no_grad():
        source = tensor.detach()
        moved = torch.empty_like(source, dtype=dtype, device="meta", **formats)
        record = machine.storages.of_storage(moved.untyped_storage())
        if source.numel() <= machine.max_known_elements:
            remember_value(moved, record, source.to(dtype, copy=True))
    return moved.requires_grad_(True) if tensor.requires_grad else moved


@handles(T.to)
def _to(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, *rest = args
    current = machine.storages.device_of(tensor)
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    copy = kwargs.get("copy", False)
    if rest and isinstance(rest[0], T):
        other = machine.storages.device_of(rest[0])
        device = rest[0].device if other is None else torch_device(other)
        dtype = rest[0].dtype
    else:
        for argument in rest:
            if isinstance(argument, torch.dtype):
                dtype = argument
            elif isinstance(argument, (str, torch.device)) or (
                isinstance(argument, int) and not isinstance(argument, bool)
            ):
                device = argument
        copy = copy or _positional_copy(rest)
    target = current if device is None else parse_device(device, machine.current_device)
    if target is None or (target == CPU and current is None):
        return func(*args, **kwargs)
    return move(machine, tensor, target, dtype, copy, kwargs.get("memory_format"))


def _positional_copy(rest: list[Any]) -> bool:
    """`.to(dtype, non_blocking, copy)` and `.to(device, dtype, non_blocking, copy)`."""
    booleans = [argument for argument in rest if isinstance(argument, bool)]
    return len(booleans) > 1 and booleans[1]


@handles(T.cuda)
def _cuda(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> T:
    device = kwargs.get("device", args[1] if len(args) > 1 else None)
    target = machine.current_device if device is None else parse_device(device, machine.current_device)
    return move(machine, args[0], machine.current_device if target is None else target)


@handles(T.cpu)
def _cpu(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs) if machine.storages.device_of(args[0]) is None else move(machine, args[0], HOST)


@handles(T.data.__set__)  # type: ignore[attr-defined]
def _set_data(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> None:
    tensor, data = args
    value = machine.value_of(data)
    if machine.storages.device_of(tensor) is not None:
        data = machine.virtual_on_host(data)
    if machine.storages.device_of(tensor) is None and machine.storages.device_of(data) is not None:
        # Inside, a real and a virtual tensor are of different types, whose data torch does not exchange; CPU and CUDA are not.
        requires_grad = tensor.requires_grad
        torch.utils.swap_tensors(tensor, data.detach())
        tensor.requires_grad_(requires_grad)
    else:
        func(tensor, data)
    _carry_value(machine, tensor, value)


@handles(T.__deepcopy__)
def _deepcopy(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> T:
    tensor, memo = args
    value = machine.value_of(tensor)
    if type(tensor) is T and machine.storages.of(tensor) is not None and tensor.is_leaf and id(tensor) not in memo:
        copy = _copy_with_storage(machine, tensor, memo)
    else:
        copy = func(*args, **kwargs)
    # The copy got the attributes of the original, whose known value is that of another storage.
    _carry_value(machine, copy, None if value is None else value.detach().clone())
    return copy


def _copy_with_storage(machine: VirtualGPU, tensor: T, memo: dict[Any, Any]) -> T:
    """As `Tensor.__deepcopy__` on a GPU: the whole storage is copied, once for all tensors in it."""
    storages = memo.setdefault("torch", {})
    with DisableTorchFunction():
        storage = tensor.untyped_storage()
        if storage._cdata not in storages:
            storages[storage._cdata] = storage.clone()
        layout = tensor.dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        copy = tensor_in_storage(machine, storages[storage._cdata], *layout).requires_grad_(tensor.requires_grad)
        memo[id(tensor)] = copy
        attributes = {name: held for name, held in tensor.__dict__.items() if name != ATTRIBUTE}
        gradient = tensor.grad
    copy.__dict__.update(deepcopy(attributes, memo))
    if gradient is not None:
        copy.grad = deepcopy(gradient, memo)
    return copy


@handles(T.__reduce_ex__)
def _reduce(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    if machine.storages.device_of(args[0]) in (None, TRUE_META) or type(args[0]) is not T:
        return func(*args, **kwargs)
    # Below its own check for a mode, so that it asks for the device with the mode on and pickles a storage, not a meta tensor.
    with torch._C._EnableTorchFunction(), machine.function_mode:
        return args[0]._reduce_ex_internal(args[1])


def _carry_value(machine: VirtualGPU, tensor: T, value: T | None) -> None:
    record = machine.storages.of(tensor)
    if value is not None and record is not None and value.numel() <= machine.max_known_elements:
        remember_value(tensor, record, value)


@handles(torch.tensor, torch.as_tensor, torch.asarray)
def _tensor(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    """Built on the CPU first, then moved, so that its value stays known."""
    device = kwargs.get("device")
    target = machine.default_device if device is None else parse_device(device, machine.current_device)
    if target is None or target == CPU:
        return func(*args, **kwargs)
    kwargs = {**kwargs, "device": "cpu"}
    requires_grad = kwargs.pop("requires_grad", False)
    kwargs.pop("pin_memory", None)
    if isinstance(args[0], T):
        source = args[0].detach().clone() if func is torch.tensor else args[0]
        built = source.to(device=torch_device(target), dtype=kwargs.get("dtype"))
    else:
        built = func(*args, **kwargs)
        built = built.to("meta") if target == TRUE_META else move(machine, built, target)
    return built.requires_grad_(True) if requires_grad else built


@handles(T.type)
def _type(machine: VirtualGPU, func: Any, args: Any, kwargs: Any) -> Any:
    requested = args[1] if len(args) > 1 else kwargs.get("dtype")
    if isinstance(requested, type):
        requested = f"{requested.__module__}.{requested.__name__}"
    device = machine.storages.device_of(args[0])
    if requested is None and device is not None:
        with DisableTorchFunction():
            name = torch.empty(0, dtype=args[0].dtype).type()
        return name.replace("torch.", "torch.cuda.") if device >= 0 else name
    if isinstance(requested, str) and "cuda" in requested:
        return move(machine, args[0], machine.current_device, getattr(torch, requested.rpartition(".")[2]).dtype)
    return func(*args, **kwargs)
