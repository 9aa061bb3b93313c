"""GPUs and their processes as the driver counts them, through NVML (nvidia-ml-py). Needs no torch.

Every function takes the module, so that a test can hand in its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vramcast.errors import MissingExtraError, VramcastError


class DriverError(VramcastError):
    """The NVIDIA driver cannot be asked."""


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """Device memory of one process on one GPU."""

    pid: int
    name: str
    used_bytes: int | None
    """None where the driver does not tell: containers, or a driver in WDDM mode."""


@dataclass(frozen=True, slots=True)
class GPUReading:
    """Memory of one GPU by the driver's count."""

    index: int
    name: str
    total_bytes: int
    used_bytes: int
    processes: tuple[ProcessReading, ...]


@contextmanager
def opened_nvml(module: Any = None) -> Iterator[Any]:
    """NVML, ready to be asked.

    Args:
        module: `pynvml`, or what stands in for it.

    Raises:
        MissingExtraError: nvidia-ml-py is not installed.
        DriverError: there is no NVIDIA driver, or it does not answer.
    """
    nvml = _installed() if module is None else module
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise DriverError(
            f"NVML does not answer ({error}): live readings need an NVIDIA GPU and its driver on this machine"
        ) from error
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _installed() -> Any:
    try:
        return import_module("pynvml")
    except ModuleNotFoundError:
        raise MissingExtraError("asking the NVIDIA driver (nvidia-ml-py)", "measure") from None


def read_gpus(nvml: Any) -> list[GPUReading]:
    """All GPUs now.

    Raises:
        DriverError: a GPU stopped answering.
    """
    try:
        return [_read(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        raise DriverError(f"NVML stopped answering ({error})") from error


def process_used_bytes(nvml: Any, index: int = 0) -> int | None:
    """Device memory of this process on a GPU; None where the driver does not tell.

    In a container the driver counts processes by other numbers: then a GPU with a single process tells all the same.
    """
    processes = read_gpus(nvml)[index].processes
    own = [process for process in processes if process.pid == os.getpid() or len(processes) == 1]
    return own[0].used_bytes if own else None


def _read(nvml: Any, index: int) -> GPUReading:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    # The second version of the structure leaves out what the driver keeps for itself, as nvidia-smi does.
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return GPUReading(
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        used_bytes=int(memory.used),
        processes=tuple(
            ProcessReading(process.pid, _process_name(nvml, process.pid), process.usedGpuMemory) for process in found
        ),
    )


def _process_name(nvml: Any, pid: int) -> str:
    try:
        return _text(nvml.nvmlSystemGetProcessName(pid))
    except nvml.NVMLError:
        return ""  # it has ended meanwhile, or belongs to another user


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
