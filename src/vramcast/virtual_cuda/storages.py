"""Which device a storage lives on: one tag per storage, not per tensor.

On the virtual GPU every tensor is a `meta` tensor inside. The tag of its storage says where it *would* live: on a CUDA device
(index >= 0), in virtual host memory (`HOST`), or nowhere (a true meta tensor has no tag). Views, `detach`, `.data` and in-place
results share the storage and so inherit the tag for free, and tied weights stay tied.
"""

import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

import torch

from vramcast.timeline import Allocation

HOST = -1
TRUE_META = -2
HOST_ADDRESS_BASE = 1 << 50
HOST_ALIGNMENT = 64

DisableTorchFunction = torch._C.DisableTorchFunction
raw_is_meta = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]  # a getset descriptor; answers the truth when no mode is on
raw_storage_device = torch._C.StorageBase.device.__get__  # type: ignore[attr-defined]  # the same, whatever is patched on the class


_GENERATIONS = count()


class StorageRecord:
    """What is known about one live virtual storage."""

    __slots__ = (
        "allocation",
        "block",
        "device",
        "generation",
        "host_address",
        "index",
        "nbytes",
        "reference",
        "used_by_streams",
    )

    def __init__(self, device: int, nbytes: int) -> None:
        self.device = device
        self.nbytes = nbytes
        self.generation = next(_GENERATIONS)
        """Changes with every in-place write of unknown values, and is never that of another storage: a known value is trusted only at the
        generation it was stored at."""
        self.allocation: Allocation | None = None
        self.index = -1
        self.block: Any = None
        self.used_by_streams: set[int] | None = None
        self.reference: StorageReference | None = None
        self.host_address = 0
        """Invented address on the virtual host, once one was asked for."""

    def forget_values(self) -> None:
        """The storage was written by something unknown: no tensor's known value holds any longer."""
        self.generation = next(_GENERATIONS)


class StorageReference(weakref.ref["torch.UntypedStorage"]):
    """Weak reference that remembers its key, so that one shared callback serves every storage."""

    __slots__ = ("key",)
    key: int

    def __new__(
        cls, storage: torch.UntypedStorage, callback: Callable[["StorageReference"], None], key: int
    ) -> "StorageReference":
        """Make the reference."""
        self = super().__new__(cls, storage, callback)
        self.key = key
        return self

    def __init__(self, storage: torch.UntypedStorage, callback: Callable[["StorageReference"], None], key: int) -> None:
        """Take what `__new__` takes."""
        super().__init__(storage, callback)  # type: ignore[call-arg]


class StorageTable:
    """Tags of all live virtual storages.

    `on_death(record)` runs when the last reference (Python's or autograd's) to a storage is gone.
    """

    def __init__(self, on_death: Callable[[StorageRecord], None]) -> None:
        self.records: dict[int, StorageRecord] = {}
        self._on_death = on_death

    def add(self, storage: torch.UntypedStorage, device: int) -> StorageRecord:
        """Tag a new storage; it must not have a tag yet."""
        key = storage._cdata
        record = StorageRecord(device, storage.nbytes())
        record.reference = StorageReference(storage, self._forget, key)
        self.records[key] = record
        return record

    def _forget(self, reference: StorageReference) -> None:
        record = self.records.pop(reference.key, None)
        if record is not None:
            self._on_death(record)

    def of_storage(self, storage: torch.UntypedStorage) -> StorageRecord | None:
        """The record of a storage, or None for a real or a true meta one."""
        return self.records.get(storage._cdata)

    def of(self, tensor: torch.Tensor) -> StorageRecord | None:
        """The record behind a tensor, or None if it is real, true meta, or has no storage."""
        with DisableTorchFunction():
            tensor = local_tensor(tensor)
            if not raw_is_meta(tensor):
                return None
            try:
                return self.records.get(tensor.untyped_storage()._cdata)
            except (NotImplementedError, RuntimeError):  # sparse and other storage-less layouts
                return None

    def device_of(self, tensor: torch.Tensor) -> int | None:
        """CUDA index, `HOST` or `TRUE_META`; None for a real tensor."""
        with DisableTorchFunction():
            tensor = local_tensor(tensor)
            if not raw_is_meta(tensor):
                return None
            try:
                record = self.records.get(tensor.untyped_storage()._cdata)
            except (NotImplementedError, RuntimeError):
                return TRUE_META
        return TRUE_META if record is None else record.device

    def clear(self) -> None:
        """Forget everything; storages that outlive the virtual GPU die unseen."""
        self.records.clear()


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor a wrapper subclass such as DTensor holds on this rank, or the tensor itself."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return tensor
    inner = getattr(tensor, "_local_tensor", None)
    return inner if isinstance(inner, torch.Tensor) else tensor


def torch_device(device: int) -> torch.device:
    """The `torch.device` a user sees for a tag."""
    if device >= 0:
        return torch.device("cuda", device)
    return torch.device("cpu") if device == HOST else torch.device("meta")
