"""An object with virtual tensors in it, pickled as a skeleton: each storage is a spec, each tensor a view of one.

The format follows `torch.serialization`: storages are pickled by persistent id, so that tensors that share one still share it after
loading, and tensors by what rebuilds them (dtype, shape, strides, offset, requires_grad, Parameter or not). What is small and known is
kept by value; nothing else has a content.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import _weights_only_unpickler as weights_only_unpickler

from vramcast.virtual_cuda.saved.locations import Place, StorageSpec, read_map_location, tensor_in_storage
from vramcast.virtual_cuda.storages import TRUE_META, DisableTorchFunction, raw_is_meta, raw_storage_device
from vramcast.virtual_cuda.values import ATTRIBUTE, remember_value

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

PICKLE_PROTOCOL = 2
"""torch's own, and the only one its check of unsafe classes can read."""


class SavedObject(NamedTuple):
    """What is kept of one saved object."""

    skeleton: bytes
    storages: tuple[StorageSpec, ...]
    values: tuple[torch.Tensor, ...]
    """Known contents of virtual tensors."""


class SavedProgram(SavedObject):
    """Of a program the tensors alone are kept, for their sizes: it cannot be loaded."""


class _StorageHandle:
    """Stands for a storage in the skeleton; pickled as its number."""

    def __init__(self, number: int) -> None:
        self.number = number


def rebuild_tensor(*arguments: Any) -> Any:
    """Only a name in the skeleton: `_Unpickler` puts its own method in its place."""
    raise AssertionError("a skeleton is loaded by load_object alone")


def rebuild_typed_storage(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.TypedStorage:
    """A storage with a dtype again."""
    return torch.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


REBUILD_TENSOR = f"{__name__}.{rebuild_tensor.__name__}"
OWN_NAMES = {REBUILD_TENSOR, f"{__name__}.{rebuild_typed_storage.__name__}"}


def save_object(machine: VirtualGPU, obj: Any) -> SavedObject | None:
    """The skeleton of an object, or None if there is no virtual tensor in it.

    Raises:
        pickle.PicklingError, AttributeError, TypeError: the object cannot be pickled, as in `torch.save`.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(machine, buffer)
    pickler.dump(obj)
    if all(spec.device in (None, TRUE_META) for spec in pickler.storages):
        return None
    storages = tuple(_with_own_content(spec) for spec in pickler.storages)
    return SavedObject(buffer.getvalue(), storages, tuple(pickler.values))


def _with_own_content(spec: StorageSpec) -> StorageSpec:
    return spec if spec.content is None else spec._replace(content=spec.content.clone())


def load_object(machine: VirtualGPU, saved: SavedObject, map_location: Any = None, weights_only: bool = True) -> Any:
    """The object again; its tensors are virtual, and those on a GPU are allocated.

    Args:
        map_location: as `torch.load` takes it.
        weights_only: refuse classes that `torch.load` would refuse.

    Raises:
        pickle.UnpicklingError: `weights_only`, and the object holds something else.
    """
    if weights_only:
        _check_weights_only(saved)
    return _Unpickler(machine, saved, read_map_location(machine, map_location)).load()


def _check_weights_only(saved: SavedObject) -> None:
    allowed = {*weights_only_unpickler._get_allowed_globals(), *weights_only_unpickler._get_user_allowed_globals()}
    found = weights_only_unpickler.get_globals_in_pkl(io.BytesIO(saved.skeleton)) - allowed - OWN_NAMES
    if found:
        raise pickle.UnpicklingError(
            f"Weights only load failed. Unsupported global: {', '.join(sorted(found))} was not an allowed global by default. "
            "Load with weights_only=False if you trust the file, or allow it with torch.serialization.add_safe_globals."
        )


class _Pickler(pickle.Pickler):
    def __init__(self, machine: VirtualGPU, buffer: io.BytesIO) -> None:
        super().__init__(buffer, protocol=PICKLE_PROTOCOL)
        self._machine = machine
        self.storages: list[StorageSpec] = []
        self.values: list[torch.Tensor] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[torch.UntypedStorage] = []
        """Numbers go by address, which another storage must not get meanwhile."""

    def persistent_id(self, obj: Any) -> int | None:
        if isinstance(obj, _StorageHandle):
            return obj.number
        if isinstance(obj, torch.UntypedStorage):
            return self._number(obj, (), torch.uint8)
        return None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.TypedStorage):
            return rebuild_typed_storage, (obj._untyped_storage, obj.dtype)
        if type(obj) not in (torch.Tensor, torch.nn.Parameter) or obj.layout != torch.strided:
            return NotImplemented
        if obj.is_quantized or (obj.requires_grad and not obj.is_leaf):
            return NotImplemented
        with DisableTorchFunction():
            filled = obj.numel() * obj.element_size() == obj.untyped_storage().nbytes()
            shape, dtype = (tuple(obj.shape), obj.dtype) if filled else ((), torch.uint8)
            handle = _StorageHandle(self._number(obj.untyped_storage(), shape, dtype))
            value = self._machine.value_of(obj) if raw_is_meta(obj) else None
            attributes = {key: kept for key, kept in obj.__dict__.items() if key != ATTRIBUTE}
            is_parameter = isinstance(obj, torch.nn.Parameter)
            layout = (obj.dtype, tuple(obj.shape), obj.stride(), obj.storage_offset())
            if value is not None:
                self.values.append(value.detach().clone())
            number = None if value is None else len(self.values) - 1
            return rebuild_tensor, (is_parameter, handle, *layout, obj.requires_grad, number, attributes)

    def _number(self, storage: torch.UntypedStorage, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        known = self._numbers.get(storage._cdata)
        if known is not None:
            if shape and not self.storages[known].shape:
                self.storages[known] = self.storages[known]._replace(shape=shape, dtype=dtype)
            return known
        record = self._machine.storages.of_storage(storage)
        is_real = raw_storage_device(storage).type != "meta"
        device = record.device if record is not None else (None if is_real else TRUE_META)
        content = storage if is_real else None
        self._numbers[storage._cdata] = len(self.storages)
        self._alive.append(storage)
        self.storages.append(StorageSpec(storage.nbytes(), device, content, shape, dtype))
        return len(self.storages) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, machine: VirtualGPU, saved: SavedObject, place: Place) -> None:
        super().__init__(io.BytesIO(saved.skeleton))
        self._machine, self._saved, self._place = machine, saved, place
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._contents: dict[int, torch.UntypedStorage] = {}
        """Known bytes behind the storages that were real when they were saved."""

    def persistent_load(self, pid: Any) -> torch.UntypedStorage:
        storage = self._storages.get(pid)
        if storage is None:
            spec = self._saved.storages[pid]
            storage = self._storages[pid] = self._place(spec)
            if spec.content is not None and spec.nbytes <= self._machine.max_known_elements:
                self._contents[storage._cdata] = spec.content
        return storage

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" == REBUILD_TENSOR:
            return self._rebuild
        return super().find_class(module, name)

    def _rebuild(
        self,
        is_parameter: bool,
        storage: torch.UntypedStorage,
        dtype: torch.dtype,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        offset: int,
        requires_grad: bool,
        value: int | None,
        attributes: dict[str, Any],
    ) -> torch.Tensor:
        tensor = tensor_in_storage(self._machine, storage, dtype, shape, stride, offset)
        record = self._machine.storages.of_storage(storage)
        content = self._contents.get(storage._cdata)
        known = None if value is None else self._saved.values[value]
        if content is not None and record is not None:
            known = tensor_in_storage(self._machine, content, dtype, shape, stride, offset)
        if known is not None and record is not None:
            with DisableTorchFunction():
                remember_value(tensor, record, known.clone())
        if is_parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad)
        elif requires_grad:
            tensor.requires_grad_(True)
        tensor.__dict__.update(attributes)
        return tensor
