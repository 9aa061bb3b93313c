"""The device that is present, and everything that is read of it at the end of a run."""

from __future__ import annotations

import platform
from typing import Any

import torch

from vramcast.errors import MissingExtraError
from vramcast.measure.allocator_readings import (
    allocator_memory,
    allocator_statistics,
    describe_gpu,
    device_used_bytes,
    software_versions,
)
from vramcast.measure.nvml import DriverError, opened_nvml, process_used_bytes


def is_cuda() -> bool:
    """Whether jobs are measured on a CUDA device; else on the CPU."""
    return torch.cuda.is_available()


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


def _process_used() -> tuple[int | None, str]:
    """What NVML counts for this process, or why there is no such figure."""
    try:
        with opened_nvml() as nvml:
            used = process_used_bytes(nvml, torch.cuda.current_device())
    except (MissingExtraError, DriverError) as error:
        return None, str(error)
    return used, "" if used is not None else "the driver does not tell the memory of this process"
