"""What PyTorch's CUDA allocator and the driver say of the memory of this process, as plain ints of bytes."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_MEMORY = {
    "allocated_bytes": "memory_allocated",
    "reserved_bytes": "memory_reserved",
    "peak_allocated_bytes": "max_memory_allocated",
    "peak_reserved_bytes": "max_memory_reserved",
}
_STATISTICS = (
    "active_bytes.all.peak",
    "requested_bytes.all.peak",
    "inactive_split_bytes.all.peak",
    "allocated_bytes.small_pool.peak",
    "allocated_bytes.large_pool.peak",
    "reserved_bytes.small_pool.peak",
    "reserved_bytes.large_pool.peak",
    "segment.all.peak",
    "allocation.all.allocated",
    "num_alloc_retries",
    "num_ooms",
)


def allocator_memory() -> dict[str, int]:
    """Allocated and reserved, now and at their peaks so far."""
    return {key: int(getattr(torch.cuda, name)()) for key, name in _MEMORY.items()}


def allocator_statistics() -> dict[str, int]:
    """Some entries of `torch.cuda.memory_stats`."""
    statistics = torch.cuda.memory_stats()
    return {name: int(statistics[name]) for name in _STATISTICS if name in statistics}


def device_used_bytes() -> int:
    """What the whole device holds by the driver's count, all processes together."""
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def describe_gpu() -> dict[str, Any]:
    """Name, compute capability, memory by the driver's count and multiprocessors of the current device."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": torch.cuda.get_device_name(),
        "kind": "cuda",
        "compute_capability": list(torch.cuda.get_device_capability()),
        "total_memory_bytes": int(torch.cuda.mem_get_info()[1]),
        "multiprocessor_count": int(properties.multi_processor_count),
    }


def software_versions(*, has_cuda: bool) -> dict[str, str]:
    """Releases of everything that takes part; vramcast may be a source tree that is not installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for library in ("transformers", "vramcast"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = _source_version(library)
    if has_cuda:
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return found


def _source_version(library: str) -> str:
    module = import_module(library)
    return f"{getattr(module, '__version__', 'unknown')} ({Path(str(module.__file__)).parent.name})"
