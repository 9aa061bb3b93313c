"""The device that is present, and everything that is read of it at the end of a run."""

from __future__ import annotations

import platform
from typing import Any

import torch

from vramcast.errors import MissingExtraError, UnknownGPUError
from vramcast.hardware import GPU, cuda_context_bytes, custom_gpu, find_gpu
from vramcast.measure.allocator_readings import (
    allocator_memory,
    allocator_statistics,
    describe_gpu,
    device_used_bytes,
    software_versions,
)
from vramcast.measure.nvml import DriverError, opened_nvml, process_used_bytes

_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_cuda() -> bool:
    """Whether jobs are measured on a CUDA device; else on the CPU."""
    return torch.cuda.is_available()


def gpu_present() -> GPU | None:
    """The GPU of this process with the memory that is free on it now, None where there is none.

    Its row of the hardware file where it has one, else a custom card of its compute capability. The memory is what is free plus this
    process's own context, so that what other processes hold is not promised to the job.
    """
    if not is_cuda():
        return None
    free, total = torch.cuda.mem_get_info()
    try:
        gpu = find_gpu(torch.cuda.get_device_name())
    except UnknownGPUError:
        gpu = custom_gpu(total, torch.cuda.get_device_capability())
    free_for_it = min(total, free + cuda_context_bytes(gpu).bytes)
    return gpu.with_cuda_total(free_for_it, "free on the card that is present", is_read=True)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a full device caused it: the allocator's own error, or that of a library or the driver which asked without it."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL)


def device_description() -> dict[str, Any]:
    """The `device` and `versions` of a measurement."""
    device = describe_gpu() if is_cuda() else {"name": "cpu", "kind": "cpu", "processor": platform.machine()}
    return {"device": device, "versions": software_versions(has_cuda=is_cuda())}


def read_cuda(marks: list[dict[str, Any]]) -> dict[str, Any]:
    """Peaks of the allocator and what the driver counts, in the form of the records."""
    peaks = allocator_memory()
    used, why = _process_used()
    return {
        "peak_allocated_bytes": peaks["peak_allocated_bytes"],
        "peak_reserved_bytes": peaks["peak_reserved_bytes"],
        "device_used_bytes": device_used_bytes(),
        "process_used_bytes": used,
        "marks": marks,
        "notes": {"process_used_bytes": why} if why else {},
        "memory_stats": allocator_statistics(),
    }


def missing_readings(readings: dict[str, Any]) -> list[str]:
    """What could not be read and why, for those who look at the comparison."""
    why = readings.get("notes", {}).get("process_used_bytes")
    return [f"device used by this process is not measured: {why}"] if why else []


def _process_used() -> tuple[int | None, str]:
    """What NVML counts for this process, or why there is no such figure."""
    try:
        with opened_nvml() as nvml:
            used = process_used_bytes(nvml, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
    except (MissingExtraError, DriverError) as error:
        return None, str(error)
    if used is None:
        return None, "the driver does not tell the memory of this process"
    if used < torch.cuda.memory_reserved():
        return None, f"the driver tells {used} bytes, less than this process's allocator holds: they are another's"
    return used, ""
