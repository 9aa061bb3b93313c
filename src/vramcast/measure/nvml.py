"""GPUs and their processes as the driver counts them, through NVML (nvidia-ml-py). Needs no torch.

Every function takes the module, so that a test can hand in its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    """Memory of one GPU, or of one MIG instance of it, by the driver's count."""

    index: int
    """NVML's own number, that of nvidia-smi: by PCI bus. CUDA may count otherwise."""
    name: str
    total_bytes: int | None
    """None where the driver does not tell: a GPU without memory of its own, or one that stopped answering."""
    used_bytes: int | None
    processes: tuple[ProcessReading, ...]
    problem: str = ""
    """What the driver does not tell, and why."""


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
    except _errors(nvml) as error:
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
    """All GPUs now, one whose MIG mode is on as its instances; what one GPU does not tell hides no other.

    Raises:
        DriverError: the driver stopped answering.
    """
    try:
        count = nvml.nvmlDeviceGetCount()
    except _errors(nvml) as error:
        raise DriverError(f"NVML stopped answering ({error})") from error
    return [reading for index in range(count) for reading in _readings(nvml, index)]


def process_used_bytes(nvml: Any, uuid: str) -> int | None:
    """Device memory of this process on a GPU; None where the driver does not tell.

    In a container the driver counts processes by other numbers: then a GPU with a single process tells all the same.

    Args:
        nvml: the module.
        uuid: of the GPU or MIG instance, without prefix, as `torch.cuda.get_device_properties` has it. Numbers would not do: NVML counts
            by PCI bus, CUDA by speed, and CUDA_VISIBLE_DEVICES changes CUDA's alone.

    Raises:
        DriverError: NVML knows no such GPU, or does not tell its processes.
    """
    try:
        processes = _processes(nvml, _handle_of(nvml, uuid))
    except _errors(nvml) as error:
        raise DriverError(f"NVML does not tell the processes of GPU {uuid} ({error})") from error
    own = [process for process in processes if process.pid == os.getpid() or len(processes) == 1]
    return own[0].used_bytes if own else None


def _handle_of(nvml: Any, uuid: str) -> Any:
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except _errors(nvml):
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _readings(nvml: Any, index: int) -> list[GPUReading]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except _errors(nvml) as error:
        return [GPUReading(index, "GPU", None, None, (), f"not told: everything ({error})")]
    return [_read(nvml, index, part) for part in _mig_instances(nvml, handle) or [handle]]


def _mig_instances(nvml: Any, handle: Any) -> list[Any]:
    """Handles of the instances; none where the GPU has no MIG, or it is off."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return []
        places = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except _errors(nvml):
        return []
    found = []
    for place in range(places):
        with suppress(*_errors(nvml)):  # a place without an instance
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
    return found


def _read(nvml: Any, index: int, handle: Any) -> GPUReading:
    problems: list[str] = []

    def told(what: str, ask: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return ask()
        except _errors(nvml) as error:
            problems.append(f"{what} ({error})")
            return otherwise

    name = told("name", lambda: _text(nvml.nvmlDeviceGetName(handle)), "GPU")
    # The second version of the structure leaves out what the driver keeps for itself, as nvidia-smi does.
    memory = told("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2), None)
    processes = told("processes", lambda: _processes(nvml, handle), ())
    return GPUReading(
        index=index,
        name=name,
        total_bytes=None if memory is None else int(memory.total),
        used_bytes=None if memory is None else int(memory.used),
        processes=processes,
        problem=f"not told: {', '.join(problems)}" if problems else "",
    )


def _processes(nvml: Any, handle: Any) -> tuple[ProcessReading, ...]:
    return tuple(
        ProcessReading(process.pid, _process_name(nvml, process.pid), process.usedGpuMemory)
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    )


def _process_name(nvml: Any, pid: int) -> str:
    try:
        return _text(nvml.nvmlSystemGetProcessName(pid))
    except _errors(nvml):
        return ""  # it has ended meanwhile, or belongs to another user


def _errors(nvml: Any) -> tuple[type[Exception], ...]:
    """The second is raised where the driver is older than nvidia-ml-py, and is no kind of the first."""
    return (nvml.NVMLError, nvml.NVMLLibraryMismatchError)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
