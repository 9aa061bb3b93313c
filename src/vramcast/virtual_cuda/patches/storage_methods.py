"""Storage methods that pass no operator: `resize_` frees and allocates, `data_ptr` must be unique, a copy stays on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.devices import parse_device
from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.saved.locations import StorageSpec, virtual_storage
from vramcast.virtual_cuda.storages import HOST, StorageRecord, raw_storage_device, torch_device

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `UntypedStorage.resize_` and `.data_ptr`."""
    original_resize = torch.UntypedStorage.resize_
    original_data_ptr = torch.UntypedStorage.data_ptr

    def resize_(self: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
        record = machine.storages.of_storage(self)
        if record is not None and record.device >= 0 and size != record.nbytes:
            reallocate(machine, record, size)
        original_resize(self, size)
        return self

    def data_ptr(self: torch.UntypedStorage) -> int:
        record = machine.storages.of_storage(self)
        return original_data_ptr(self) if record is None else machine.device_memory.address_of(record)

    patches.set(torch.UntypedStorage, "resize_", resize_)
    patches.set(torch.UntypedStorage, "data_ptr", data_ptr)
    _install_copies(machine, patches)


def _install_copies(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace what names the device of a storage, makes one there, or copies it."""
    original_new: Any = torch.UntypedStorage.__new__
    original_clone: Any = torch.UntypedStorage.clone

    def device(self: torch.UntypedStorage) -> torch.device:
        record = machine.storages.of_storage(self)
        return raw_storage_device(self) if record is None else torch_device(record.device)

    def new(cls: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        target = None if device is None else parse_device(device, machine.current_device)
        if target is None or target < 0:
            return original_new(cls, *args, **kwargs, **({} if device is None else {"device": device}))
        if args and not isinstance(args[0], int):
            raise RuntimeError("a storage on a virtual GPU is made of a number of bytes, not of a list of values")
        return _bytes_on(machine, args[0] if args else kwargs.get("size", 0), target)

    def to_device(self: torch.UntypedStorage, target: int) -> torch.UntypedStorage:
        record = machine.storages.of_storage(self)
        if record is None and target == HOST:
            return self
        return self if record is not None and record.device == target else _bytes_on(machine, self.nbytes(), target)

    def clone(self: torch.UntypedStorage) -> torch.UntypedStorage:
        record = machine.storages.of_storage(self)
        return _bytes_on(machine, self.nbytes(), record.device) if record is not None else original_clone(self)

    def cuda(self: torch.UntypedStorage, device: Any = None, non_blocking: bool = False) -> torch.UntypedStorage:
        target = None if device is None else parse_device(device, machine.current_device)
        return to_device(self, machine.current_device if target is None else target)

    patches.set(torch.UntypedStorage, "device", property(device))
    patches.set(torch.UntypedStorage, "__new__", staticmethod(new))
    patches.set(torch.UntypedStorage, "clone", clone)
    patches.set(torch.UntypedStorage, "cpu", lambda self: to_device(self, HOST))
    patches.set(torch.UntypedStorage, "cuda", cuda)


def _bytes_on(machine: VirtualGPU, nbytes: int, target: int) -> torch.UntypedStorage:
    return virtual_storage(machine, StorageSpec(nbytes, target, None, (), torch.uint8), target)


def reallocate(machine: VirtualGPU, record: StorageRecord, size: int) -> None:
    """New block first, then the old one is given back: CUDA's `resize_bytes_cuda` copies between them."""
    old = StorageRecord(record.device, record.nbytes)
    old.block, old.index, old.allocation = record.block, record.index, record.allocation
    old.used_by_streams, record.used_by_streams = record.used_by_streams, None
    category = None if record.allocation is None else record.allocation.category
    shape, dtype = ((), "") if record.allocation is None else (record.allocation.shape, record.allocation.dtype)
    record.block, record.index, record.nbytes = None, -1, size
    if size:
        machine.device_memory.allocate(record, record.device, "resize_", shape, dtype)
        if record.allocation is not None and category is not None:
            record.allocation.category = category
    machine.device_memory.release(old)
