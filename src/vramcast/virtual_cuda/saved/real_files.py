"""`torch.load` of a real file: storages that belong on a GPU become virtual as they are read, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.devices import parse_device
from vramcast.virtual_cuda.saved.files import is_path
from vramcast.virtual_cuda.saved.locations import StorageSpec, target_device, tensor_in_storage, virtual_storage
from vramcast.virtual_cuda.storages import HOST, DisableTorchFunction
from vramcast.virtual_cuda.values import remember_value

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def load_real_file(
    machine: VirtualGPU, load: Callable[..., Any], f: Any, map_location: Any, settings: dict[str, Any]
) -> Any:
    """What `torch.load` returns on a machine with a GPU.

    Args:
        load: the unpatched `torch.load`.
        map_location: as the caller gave it.
        settings: the caller's other keyword arguments.
    """
    if is_path(f) and str(f).endswith(".safetensors"):
        return load(f, map_location, **settings)  # it calls safetensors, which is patched itself
    small: dict[int, torch.UntypedStorage] = {}

    def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        if callable(map_location):
            answer = map_location(storage, location)
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        target = target_device(machine, map_location, parse_device(location, machine.current_device))
        if target == HOST:
            return storage
        virtual = virtual_storage(machine, StorageSpec(storage.nbytes(), target, None, (), torch.uint8), target)
        if storage.nbytes() <= machine.max_known_elements:
            small[virtual._cdata] = storage
        return virtual

    rebuild = torch._utils._rebuild_tensor

    def rebuild_with_value(storage: Any, offset: int, size: Any, stride: Any) -> torch.Tensor:
        tensor: torch.Tensor = rebuild(storage, offset, size, stride)  # type: ignore[no-untyped-call]
        content = small.get(storage._untyped_storage._cdata)
        if content is not None:
            value = tensor_in_storage(machine, content, tensor.dtype, size, stride, offset)
            with DisableTorchFunction():
                record = machine.storages.of_storage(tensor.untyped_storage())
                remember_value(tensor, record, value.clone())
        return tensor

    torch._utils._rebuild_tensor = rebuild_with_value
    try:
        return load(f, place, **settings)
    finally:
        torch._utils._rebuild_tensor = rebuild
