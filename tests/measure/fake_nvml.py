"""Stands in for pynvml: a machine with the GPUs and processes it is made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GPU = tuple[str, int, int, list[tuple[int, int | None]]]
"""(name, total, used, [(pid, bytes)])"""
Handle = tuple[int, int | None]
"""Number of the GPU, and of its MIG instance."""


class FakeNVMLError(Exception):
    """What pynvml raises."""


class FakeMismatchError(Exception):
    """What pynvml raises where the driver is older than itself: not the same kind."""


@dataclass
class FakeNVML:
    """Handles are pairs, so that what is not a handle is found out."""

    gpus: list[GPU] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    fails_at_start: bool = False
    uuids: list[str] = field(default_factory=list)
    """Of each GPU, such as `GPU-2b`."""
    instances: dict[int, dict[int, tuple[str, GPU]]] = field(default_factory=dict)
    """Number of a GPU -> place -> UUID, such as `MIG-9c`, and reading of the instance there."""
    refuses: dict[str, Exception] = field(default_factory=dict)
    """Name of a function -> what it raises."""
    refuses_on: int | None = None
    """The one GPU that `refuses` is about; all if not given."""
    is_open: bool = False
    nvmlMemory_v2: int = 2
    NVML_DEVICE_MIG_ENABLE: int = 1
    NVMLError: type[Exception] = FakeNVMLError
    NVMLLibraryMismatchError: type[Exception] = FakeMismatchError

    def nvmlInit(self) -> None:
        if self.fails_at_start:
            raise FakeNVMLError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        if not self.is_open:
            raise FakeNVMLError("Uninitialized")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle:
        self._may_refuse("nvmlDeviceGetHandleByIndex", index)
        return (index, None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Handle:
        places = {own: (index, place) for index, parts in self.instances.items() for place, (own, _) in parts.items()}
        known = {own: (index, None) for index, own in enumerate(self.uuids)} | places
        if uuid not in known:
            raise FakeNVMLError("Not Found")
        return known[uuid]

    def nvmlDeviceGetMigMode(self, handle: Handle) -> list[int]:
        if handle[0] not in self.instances:
            raise FakeNVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, place: int) -> Handle:
        if place not in self.instances[handle[0]]:
            raise FakeNVMLError("Not Found")
        return (handle[0], place)

    def nvmlDeviceGetName(self, handle: Handle) -> bytes:
        return self._of(handle)[0].encode()

    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int) -> Any:
        assert version == self.nvmlMemory_v2
        self._may_refuse("nvmlDeviceGetMemoryInfo", handle[0])
        _, total, used, _ = self._of(handle)
        return SimpleNamespace(total=total, used=used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[Any]:
        self._may_refuse("nvmlDeviceGetComputeRunningProcesses", handle[0])
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self._of(handle)[3]]

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        if pid not in self.names:
            raise FakeNVMLError("Not Found")
        return self.names[pid]

    def _of(self, handle: Handle) -> GPU:
        index, place = handle
        return self.gpus[index] if place is None else self.instances[index][place][1]

    def _may_refuse(self, function: str, index: int) -> None:
        if function in self.refuses and self.refuses_on in (None, index):
            raise self.refuses[function]


class FollowedNVML(FakeNVML):
    """One GPU and one process, whose memory is asked for when it is read."""

    def __init__(self, uuid: str, pid: int, used: Callable[[], int]) -> None:
        super().__init__(uuids=[f"GPU-{uuid}"])
        self._pid, self._used = pid, used

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[Any]:
        assert handle == (0, None)
        return [SimpleNamespace(pid=self._pid, usedGpuMemory=self._used())]
