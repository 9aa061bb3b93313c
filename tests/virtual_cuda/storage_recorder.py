"""Births and deaths of the storages of real CPU tensors, as a timeline: the reference for a virtual run."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast.timeline import Allocation, EventKind, Timeline
from vramcast.virtual_cuda.dispatch_mode import flatten_tensors
from vramcast.virtual_cuda.storages import StorageRecord, StorageTable

Step = tuple[str, str, int]
"""(`alloc` or `free`, operator, bytes) of one event."""


class RealStorageRecorder(TorchDispatchMode):
    """Runs every operator as it is, with real values, and notes which storages it makes and when they die."""

    def __init__(self) -> None:
        super().__init__()
        self.timeline = Timeline()
        self._storages = StorageTable(self._on_death)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in flatten_tensors([*args, *kwargs.values()], []):
            self._note(tensor, "")  # it was there before
        out = func(*args, **kwargs)
        name = func._schema.name.rpartition("::")[2]
        for tensor in flatten_tensors(out if isinstance(out, (list, tuple)) else [out], []):
            self._note(tensor, name)
        return out

    def _note(self, tensor: torch.Tensor, operator: str) -> None:
        storage = tensor.untyped_storage()
        if self._storages.of_storage(storage) is not None:
            return
        record = self._storages.add(storage, 0)
        if operator and record.nbytes:
            record.index = self.timeline.alloc(Allocation(record.nbytes, op=operator))

    def _on_death(self, record: StorageRecord) -> None:
        if record.index >= 0:
            self.timeline.free(record.index)


def steps(timeline: Timeline, *, since: int = 0) -> list[Step]:
    """Every alloc and free after event `since` of a storage born after it; library workspaces and scratch left out."""
    found: list[Step] = []
    born: set[int] = set()
    for kind, target, _ in timeline.events[since:]:
        if kind not in (EventKind.ALLOC, EventKind.FREE):
            continue
        allocation = timeline.allocations[target]
        if allocation.category == "workspace":
            continue
        if kind is EventKind.ALLOC:
            born.add(target)
            found.append(("alloc", allocation.op, allocation.nbytes))
        elif target in born:
            found.append(("free", allocation.op, allocation.nbytes))
    return found
