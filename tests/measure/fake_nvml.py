"""Stands in for pynvml: a machine with the GPUs and processes it is made with."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class FakeNVMLError(Exception):
    """What pynvml raises."""


@dataclass
class FakeNVML:
    """`gpus`: (name, total, used, [(pid, bytes)]) of each."""

    gpus: list[tuple[str, int, int, list[tuple[int, int | None]]]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    fails_at_start: bool = False
    is_open: bool = False
    nvmlMemory_v2: int = 2
    NVMLError: type[Exception] = FakeNVMLError

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

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return self.gpus[handle][0].encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int) -> Any:
        assert version == self.nvmlMemory_v2
        return SimpleNamespace(total=self.gpus[handle][1], used=self.gpus[handle][2])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.gpus[handle][3]]

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        if pid not in self.names:
            raise FakeNVMLError("Not Found")
        return self.names[pid]
