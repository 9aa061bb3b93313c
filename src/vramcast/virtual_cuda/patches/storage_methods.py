"""Storage methods that pass no operator: `resize_` frees and allocates, `data_ptr` must be unique."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.storages import StorageRecord

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
        return original_data_ptr(self) if record is None else machine.address_of(record)

    patches.set(torch.UntypedStorage, "resize_", resize_)
    patches.set(torch.UntypedStorage, "data_ptr", data_ptr)


def reallocate(machine: VirtualGPU, record: StorageRecord, size: int) -> None:
    """New block first, then the old one is given back: CUDA's `resize_bytes_cuda` copies between them."""
    old = StorageRecord(record.device, record.nbytes)
    old.block, old.index, old.allocation = record.block, record.index, record.allocation
    old.used_by_streams, record.used_by_streams = record.used_by_streams, None
    category = None if record.allocation is None else record.allocation.category
    shape, dtype = ((), "") if record.allocation is None else (record.allocation.shape, record.allocation.dtype)
    record.block, record.index, record.nbytes = None, -1, size
    if size:
        machine.allocate(record, record.device, "resize_", shape, dtype)
        if record.allocation is not None and category is not None:
            record.allocation.category = category
    machine.release(old)
