"""The memory of the virtual machine's GPUs: how storages take blocks of it and give them back, for the allocators and in the timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vramcast.allocator import AllocatorOutOfMemory
from vramcast.timeline import Allocation, Category, Event, EventKind
from vramcast.virtual_cuda.out_of_memory import OutOfMemory, torch_error
from vramcast.virtual_cuda.patches.storage_methods import reallocate
from vramcast.virtual_cuda.source_lines import running_line
from vramcast.virtual_cuda.storages import HOST_ADDRESS_BASE, HOST_ALIGNMENT, StorageRecord

if TYPE_CHECKING:
    from vramcast.timeline.events import ScratchCall
    from vramcast.virtual_cuda.machine import VirtualGPU

MOVE_LABEL = "copy_from_host"
"""What a move to the GPU is called in the timeline."""


class DeviceMemory:
    """Every block that is taken on GPU 0 or given back stands in the timeline too, unless nothing is recorded."""

    def __init__(self, machine: VirtualGPU, *, record: bool) -> None:
        self._machine = machine
        self._records = record
        self._next_host_address = HOST_ADDRESS_BASE

    def on_result(self, tensor: torch.Tensor, device: int, op: str) -> None:
        """Tag the storage of an operator's result; a new one on the GPU is an allocation."""
        storage = tensor.untyped_storage()
        known = self._machine.storages.records.get(storage._cdata)
        if known is not None:
            if known.device >= 0 and storage.nbytes() > known.nbytes:  # `resize_`, or an `out=` that was too small
                reallocate(self._machine, known, storage.nbytes())
            return
        record = self._machine.storages.add(storage, device)
        if device >= 0 and record.nbytes:
            self.allocate(record, device, op, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    def allocate(
        self,
        record: StorageRecord,
        device: int,
        op: str,
        shape: tuple[int, ...] = (),
        dtype: str = "",
        *,
        scratch: ScratchCall | None = None,
    ) -> None:
        """Take `record.nbytes` from the allocator of `device` for a storage."""
        machine = self._machine
        if device >= machine.device_count:
            raise RuntimeError(
                f"CUDA error: invalid device ordinal (cuda:{device}; this virtual machine has {machine.device_count})"
            )
        if machine.is_bad_fork:
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"
            )
        allocation = record.allocation = self._describe(record.nbytes, op, shape, dtype, scratch)
        try:
            record.block = machine.allocators[device].malloc(record.nbytes, allocation.stream)
        except AllocatorOutOfMemory as error:
            record.nbytes = 0
            raise self._out_of_memory(device, allocation, error) from None
        if device == machine.recorded_device and self._records:
            record.index = machine.timeline.alloc(allocation)
            if machine.source_lines is not None:
                machine.source_lines.note_allocation()
        machine.categories.born(record, allocation.phase)
        if device == machine.recorded_device:
            for listener in machine.allocation_listeners:
                listener()

    def _describe(
        self, nbytes: int, op: str, shape: tuple[int, ...], dtype: str, scratch: ScratchCall | None
    ) -> Allocation:
        machine = self._machine
        phase, op = machine.phases.current, machine.operator_label or op
        category: Category = "temporary"
        if op == MOVE_LABEL and not machine.modules.inside and phase in ("load", "forward"):
            category = "inputs"
        module = machine.modules.current_path()
        return Allocation(nbytes, machine.current_stream, category, phase, module, op, dtype, shape, scratch)

    def _out_of_memory(
        self, device: int, allocation: Allocation, error: AllocatorOutOfMemory
    ) -> torch.OutOfMemoryError:
        machine = self._machine
        line = running_line() if machine.source_lines is None else machine.source_lines.current_line()
        # Numbers alone: the error holds frames, and with them tensors.
        numbers = error.free_bytes, error.allocated_bytes, error.reserved_bytes
        so_far = len(machine.timeline.events), machine.optimizer_steps
        machine.out_of_memory.append(OutOfMemory(device, allocation, line, *numbers, *so_far))
        # The failed request left its trace: everything cached was given back before the allocator gave up.
        machine.timeline.events.append(Event(EventKind.EMPTY_CACHE))
        machine.phases.in_optimizer = False  # its step ends here, without the hook that would say so
        return torch_error(machine, device, error)

    def release(self, record: StorageRecord) -> None:
        """Give the bytes of a storage back."""
        if record.block is None and record.index < 0:
            return
        if record.block is not None:
            self._free_block(record)
        if record.index >= 0:
            if record.used_by_streams:
                for stream in sorted(record.used_by_streams):
                    self._note(Event(EventKind.USE_STREAM, record.index, stream))
            self._machine.timeline.free(record.index)
            record.index = -1
        self._machine.categories.forget(record)

    def _free_block(self, record: StorageRecord) -> None:
        allocator = self._machine.allocators[record.device]
        for stream in record.used_by_streams or ():
            allocator.record_stream(record.block, stream)
        allocator.free(record.block)
        record.block = None

    def on_death(self, record: StorageRecord) -> None:
        """The last reference to a storage is gone."""
        if record.device >= 0:
            self.release(record)

    def use_on_stream(self, record: StorageRecord, stream: int) -> None:
        """`tensor.record_stream(stream)`: the block may not be reused before that stream has passed its free."""
        if record.allocation is not None and stream != record.allocation.stream:
            record.used_by_streams = (record.used_by_streams or set()) | {stream}

    def address_of(self, record: StorageRecord) -> int:
        """A unique address for `data_ptr()`: the simulated one on the GPU, an invented one on the virtual host."""
        if record.block is not None:
            return int(record.block.address) + (record.device << 42)
        if not record.host_address:
            record.host_address, self._next_host_address = (
                self._next_host_address,
                self._next_host_address + record.nbytes + HOST_ALIGNMENT,
            )
            self._next_host_address &= -HOST_ALIGNMENT
        return record.host_address

    def empty_cache(self) -> None:
        """`torch.cuda.empty_cache()` on every device."""
        for allocator in self._machine.allocators:
            allocator.empty_cache()
        self._note(Event(EventKind.EMPTY_CACHE))

    def note_reset_peak(self) -> None:
        """`torch.cuda.reset_peak_memory_stats()` was called."""
        self._note(Event(EventKind.RESET_PEAK))

    def host_waits_for_device(self) -> None:
        """The CPU waits for the whole GPU."""
        self._machine.allocator.synchronize()
        self._note(Event(EventKind.HOST_WAIT_DEVICE))

    def host_waits_for_stream(self, stream: int) -> None:
        """The CPU waits until a stream is drained."""
        self._machine.allocator.host_wait_stream(stream)
        self._note(Event(EventKind.HOST_WAIT_STREAM, 0, stream))

    def _note(self, event: Event) -> None:
        self._machine.timeline.events.append(event)
