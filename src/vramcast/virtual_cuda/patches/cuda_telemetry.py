"""What code asks the driver, NVML and the profiler about: answered where it is known, else with zero, which is noted."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from vramcast.allocator.snapshot_writer import write_snapshot
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

NOT_MEASURED = "temperature, power, clocks and utilisation of a virtual GPU are answered with 0"
NCCL_VERSION = (2, 28, 9)


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace the functions of submodules that need a driver."""
    for name in ("range_push", "range_pop", "range_start", "range_end", "mark"):
        patches.set(torch.cuda.nvtx, name, lambda *args, **kwargs: 0)
    patches.set(torch.cuda.nccl, "version", lambda: NCCL_VERSION)
    patches.set(torch.cuda.nccl, "is_available", lambda tensors: True)


class CudaTelemetry:
    """Each method stands in for the function of `torch.cuda` or `torch.cuda.memory` with its name."""

    def __init__(self, machine: VirtualGPU) -> None:
        self._machine = machine
        self._sync_debug_mode = 0
        self._max_entries: int | None = None

    def _zero(self) -> int:
        self._machine.assumptions.add_once(NOT_MEASURED)
        return 0

    def temperature(self, device: Any = None) -> int:
        return self._zero()

    def power_draw(self, device: Any = None) -> int:
        return self._zero()

    def clock_rate(self, device: Any = None) -> int:
        return self._zero()

    def utilization(self, device: Any = None) -> int:
        return self._zero()

    def memory_usage(self, device: Any = None) -> int:
        return self._zero()

    def device_memory_used(self, device: Any = None) -> int:
        free, total = torch.cuda.mem_get_info(device)
        return total - free

    def list_gpu_processes(self, device: Any = None) -> str:
        used = self.device_memory_used(device) / 1024**2
        return f"GPU:{self._machine.current_device}\nprocess (this one, virtual) uses {used:.3f} MB GPU memory"

    def get_sync_debug_mode(self) -> int:
        return self._sync_debug_mode

    def set_sync_debug_mode(self, debug_mode: int | str) -> None:
        names = {"default": 0, "warn": 1, "error": 2}
        self._sync_debug_mode = names[debug_mode] if isinstance(debug_mode, str) else debug_mode

    def get_allocator_backend(self) -> str:
        return "native"

    def current_solver_handle(self) -> int:
        return 0

    def cudart(self) -> SimpleNamespace:
        """The CUDA runtime, as far as scripts use it: profiler marks, memory, host registration."""
        done: Callable[..., int] = lambda *args, **kwargs: 0  # noqa: E731
        names = ("cudaProfilerStart", "cudaProfilerStop", "cudaHostRegister", "cudaHostUnregister", "cudaDeviceReset")
        return SimpleNamespace(
            cudaMemGetInfo=torch.cuda.mem_get_info,
            cudaError=SimpleNamespace(success=0),
            cudaGetErrorString=str,
            **dict.fromkeys(names, done),
        )

    def check_error(self, res: int) -> None:
        if res != 0:
            raise RuntimeError(f"CUDA error ({res})")

    def _sleep(self, cycles: int) -> None:
        return None

    # -- memory history

    def _record_memory_history(self, enabled: str | None = "all", *args: Any, **settings: Any) -> None:
        """The timeline is kept anyway; only the length of the written history is taken over."""
        limit = settings.get("max_entries", args[2] if len(args) > 2 else None)
        self._max_entries = limit if isinstance(limit, int) and 0 < limit < 1 << 62 else None

    def _dump_snapshot(self, filename: Any = "dump_snapshot.pickle", augment_with_fx_traces: bool = False) -> None:
        machine = self._machine
        write_snapshot(
            machine.timeline,
            filename,
            config=machine.allocator_config,
            capacity_bytes=machine.capacity_bytes,
            max_entries=self._max_entries,
        )

    def _snapshot(self, device: Any = None, augment_with_fx_traces: bool = False) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "snapshot.pickle"
            self._dump_snapshot(path)
            return pickle.loads(path.read_bytes())

    def memory_snapshot(self, mempool_id: Any = None, include_traces: bool = True) -> Any:
        return self._snapshot()["segments"]
