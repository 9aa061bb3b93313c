"""Where a job of the campaign runs: a CUDA GPU, the CPU, or vramcast's virtual GPU, read in the same way."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

MachineKind = Literal["cuda", "cpu", "virtual"]
MACHINE_KINDS: tuple[MachineKind, ...] = ("cuda", "cpu", "virtual")

_MIB = 1 << 20
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


@dataclass(slots=True)
class Machine:
    """A device to measure on, and its readings; on the CPU the readings of the CUDA allocator are None."""

    kind: MachineKind
    gpu: str = ""
    """Row of the hardware file that the virtual GPU imitates."""
    expandable_segments: bool = False
    simulator: Any = None
    """The `VirtualGPU`, while it is entered."""
    marks: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """What else a job has to say."""

    @property
    def device(self) -> str:
        """What the code of a job calls the device."""
        return "cpu" if self.kind == "cpu" else "cuda"

    @property
    def has_allocator(self) -> bool:
        """Whether there is a CUDA caching allocator, real or simulated."""
        return self.kind != "cpu"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What has to surround the code of a job."""
        if self.kind != "virtual":
            yield
            return
        # Imported late and by name: these rooms need pydantic, which a machine with only PyTorch may lack.
        hardware, allocator = (
            importlib.import_module("vramcast.hardware"),
            importlib.import_module("vramcast.allocator"),
        )
        simulator_class = importlib.import_module("vramcast.virtual_cuda").VirtualGPU
        config = allocator.AllocatorConfig(expandable_segments=self.expandable_segments)
        with simulator_class(hardware.find_gpu(self.gpu), allocator_config=config) as self.simulator:
            yield

    def synchronize(self) -> None:
        """Wait for the device; errors of its kernels are raised here."""
        if self.has_allocator:
            torch.cuda.synchronize()

    def memory(self) -> dict[str, int | None]:
        """Bytes now and the peaks so far."""
        names = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")
        keys = ("allocated_bytes", "reserved_bytes", "peak_allocated_bytes", "peak_reserved_bytes")
        if not self.has_allocator:
            return dict.fromkeys(keys)
        return {key: int(getattr(torch.cuda, name)()) for key, name in zip(keys, names, strict=True)}

    def mark(self, name: str, step: int | None = None) -> None:
        """Keep the readings of this instant."""
        self.marks.append({"name": name, "step": step, **self.memory(), "device_used_bytes": self.device_used_bytes()})

    def device_used_bytes(self) -> int | None:
        """What the whole device holds by the driver's count, all processes together."""
        if not self.has_allocator:
            return None
        free, total = torch.cuda.mem_get_info()
        return int(total - free)

    def readings(self) -> dict[str, Any]:
        """Everything that is read at the end of a job."""
        peaks = self.memory()
        statistics = torch.cuda.memory_stats() if self.has_allocator else {}
        return {
            "peak_allocated_bytes": peaks["peak_allocated_bytes"],
            "peak_reserved_bytes": peaks["peak_reserved_bytes"],
            "device_used_bytes": self.device_used_bytes(),
            "process_used_bytes": process_used_bytes() if self.kind == "cuda" else None,
            "marks": self.marks,
            "notes": self.notes,
            "memory_stats": {name: int(statistics[name]) for name in _STATISTICS if name in statistics},
        }

    def describe(self) -> dict[str, Any]:
        """The `versions` and `gpu` of a record."""
        with self.entered():
            return {"versions": _versions(self.kind), "gpu": self._gpu()}

    def _gpu(self) -> dict[str, Any]:
        if not self.has_allocator:
            return {"name": "cpu", "kind": self.kind}
        properties = torch.cuda.get_device_properties(0)
        return {
            "name": torch.cuda.get_device_name(0),
            "kind": self.kind,
            "compute_capability": list(torch.cuda.get_device_capability(0)),
            "total_memory_bytes": int(torch.cuda.mem_get_info()[1]),
            "multiprocessor_count": int(properties.multi_processor_count),
            "driver": _driver_version() if self.kind == "cuda" else "",
        }


def process_used_bytes() -> int | None:
    """Device memory of this process by the driver's count; None where it does not tell (containers hide ids)."""
    queries = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    rows = [line.split(", ") for line in _nvidia_smi(queries)]
    own = [used for pid, used in rows if pid == str(os.getpid()) or len(rows) == 1]
    return int(own[0]) * _MIB if own and own[0].isdigit() else None


def device_used_before_cuda() -> int | None:
    """What the device holds, asked without making a CUDA context."""
    answer = _nvidia_smi(["--query-gpu=memory.used", "--format=csv,noheader,nounits"])
    return int(answer[0]) * _MIB if answer and answer[0].isdigit() else None


def _nvidia_smi(arguments: list[str]) -> list[str]:
    try:
        answer = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _driver_version() -> str:
    answer = _nvidia_smi(["--query-gpu=driver_version", "--format=csv,noheader"])
    return answer[0] if answer else ""


def _versions(kind: MachineKind) -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for library in ("transformers", "vramcast"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = _source_version(library)
    if kind == "cuda":
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return found


def _source_version(library: str) -> str:
    """Version of a package that is on the path without being installed."""
    module = importlib.import_module(library)
    return f"{getattr(module, '__version__', 'unknown')} ({Path(str(module.__file__)).parent.name})"
