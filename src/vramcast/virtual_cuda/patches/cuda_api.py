"""`torch.cuda` and `torch.accelerator` as code sees them: answered from the GPU's data and from the simulated allocator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from vramcast.errors import RecordingError
from vramcast.virtual_cuda.devices import parse_device
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.allocator.caching_allocator import CachingAllocator
    from vramcast.virtual_cuda.machine import VirtualGPU

PRETENDED_CUDA_VERSION = "12.8"
PRETENDED_CUDNN_VERSION = 91002


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace every function of `torch.cuda` that `CudaApi` has, and what goes with it."""
    api = CudaApi(machine)
    for name in (name for name in dir(CudaApi) if not name.startswith("__")):
        for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
            if hasattr(module, name):
                patches.set(module, name, getattr(api, name))
    patches.set(torch.cuda, "_initialized", True)
    for name in ("device", "_DeviceGuard"):
        patches.set(torch.cuda, name, _device_context(machine))
    patches.set(torch.cuda, "CUDAGraph", _refused("torch.cuda.CUDAGraph"))
    patches.set(torch.cuda, "graph", _refused("torch.cuda.graph"))
    patches.set(torch._C, "_get_accelerator", lambda *args: torch.device("cuda"))
    patches.set(torch.version, "cuda", PRETENDED_CUDA_VERSION)
    patches.set(torch.backends.cuda, "is_built", lambda: True)
    patches.set(torch.backends.cudnn, "is_available", lambda: True)
    patches.set(torch.backends.cudnn, "version", lambda: PRETENDED_CUDNN_VERSION)
    _install_accelerator(api, patches)
    _install_default_device(machine, patches)


def _install_accelerator(api: CudaApi, patches: PatchSet) -> None:
    accelerator = torch.accelerator
    for name in ("empty_cache", "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
        patches.set(accelerator, name, getattr(api, name))
    for name in ("reset_peak_memory_stats", "memory_stats", "is_available", "device_count", "synchronize"):
        patches.set(accelerator, name, getattr(api, name))
    patches.set(accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    patches.set(accelerator, "current_device_index", api.current_device)
    patches.set(accelerator, "set_device_index", api.set_device)
    patches.set(accelerator, "current_stream", lambda device=None: torch.cuda.current_stream())
    patches.set(accelerator, "get_memory_info", api.mem_get_info)


def _install_default_device(machine: VirtualGPU, patches: PatchSet) -> None:
    # Torch's own default-device mode would sit below ours and reach for a real CUDA device.
    original_get = torch.get_default_device

    def set_default_device(device: Any) -> None:
        target = None if device is None else parse_device(device, machine.current_device)
        machine.default_device = None if target is None or target < 0 else target

    def get_default_device() -> torch.device:
        return original_get() if machine.default_device is None else torch.device("cuda", machine.default_device)

    patches.set(torch, "set_default_device", set_default_device)
    patches.set(torch, "get_default_device", get_default_device)


def _refused(what: str) -> type:
    """A class that cannot be made; a class and not a function, because libraries name it in annotations."""

    class Refused:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise RecordingError(
                f"{what} cannot run on a virtual GPU: a graph replays kernels that no trace can see. Run the code without it."
            )

    return Refused


def _device_context(machine: VirtualGPU) -> type:
    class Device:
        """`with torch.cuda.device(i):`"""

        def __init__(self, device: Any) -> None:
            self.target = parse_device(device, machine.current_device)
            self._previous = 0

        def __enter__(self) -> None:
            self._previous = machine.current_device
            if self.target is not None and self.target >= 0:
                machine.current_device = self.target

        def __exit__(self, *exception: Any) -> None:
            machine.current_device = self._previous

    return Device


class CudaApi:
    """Each method stands in for the function of `torch.cuda` with its name."""

    def __init__(self, machine: VirtualGPU) -> None:
        self._machine = machine

    def _allocator(self, device: Any = None) -> CachingAllocator:
        index = None if device is None else parse_device(device, self._machine.current_device)
        return self._machine.allocators[self._machine.current_device if index is None or index < 0 else index]

    # -- what there is

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def init(self) -> None:
        return None

    def _lazy_init(self) -> None:
        return None

    def _lazy_call(self, function: Any, **kwargs: Any) -> None:
        return None

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return self._machine.device_count

    def current_device(self) -> int:
        return self._machine.current_device

    def set_device(self, device: Any) -> None:
        target = parse_device(device, self._machine.current_device)
        if target is not None and target >= 0:
            self._machine.current_device = target

    def get_device_name(self, device: Any = None) -> str:
        return self._machine.device_name

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        return self._machine.compute_capability

    def get_device_properties(self, device: Any = None) -> SimpleNamespace:
        gpu = self._machine.gpu
        major, minor = self._machine.compute_capability
        return SimpleNamespace(
            name=self._machine.device_name,
            total_memory=gpu.memory_total_bytes,
            major=major,
            minor=minor,
            multi_processor_count=gpu.multiprocessor_count or 0,
            is_integrated=False,
            is_multi_gpu_board=False,
            warp_size=32,
            uuid="virtual",
        )

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return including_emulation or self._machine.compute_capability >= (8, 0)

    def is_tf32_supported(self) -> bool:
        return self._machine.compute_capability >= (8, 0)

    def get_arch_list(self) -> list[str]:
        major, minor = self._machine.compute_capability
        return [f"sm_{major}{minor}"]

    def can_device_access_peer(self, device: Any, peer_device: Any) -> bool:
        return True

    def is_current_stream_capturing(self) -> bool:
        return False

    def current_blas_handle(self) -> int:
        return 0

    # -- waiting

    def synchronize(self, device: Any = None) -> None:
        self._machine.host_waits_for_device()

    # -- memory

    def memory_allocated(self, device: Any = None) -> int:
        return self._allocator(device).statistics.all.allocated_bytes

    def max_memory_allocated(self, device: Any = None) -> int:
        return self._allocator(device).statistics.all.allocated_bytes_peak

    def memory_reserved(self, device: Any = None) -> int:
        return self._allocator(device).statistics.all.reserved_bytes

    def max_memory_reserved(self, device: Any = None) -> int:
        return self._allocator(device).statistics.all.reserved_bytes_peak

    def memory_stats(self, device: Any = None) -> dict[str, Any]:
        return self._allocator(device).memory_stats()

    def memory_summary(self, device: Any = None, abbreviated: bool = False) -> str:
        return "\n".join(f"{key}: {value}" for key, value in self.memory_stats(device).items())

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        self._allocator(device).reset_peak_stats()
        self._machine.note_reset_peak()

    def reset_max_memory_allocated(self, device: Any = None) -> None:
        self.reset_peak_memory_stats(device)

    def reset_max_memory_cached(self, device: Any = None) -> None:
        self.reset_peak_memory_stats(device)

    def reset_accumulated_memory_stats(self, device: Any = None) -> None:
        return None

    def empty_cache(self) -> None:
        self._machine.empty_cache()

    def ipc_collect(self) -> None:
        return None

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        total = self._machine.gpu.memory_total_bytes
        used = self._allocator(device).statistics.all.reserved_bytes + self._machine.context_bytes()
        return max(total - used, 0), total

    def set_per_process_memory_fraction(self, fraction: float, device: Any = None) -> None:
        raise RecordingError(
            "set_per_process_memory_fraction: give the capacity to the virtual GPU instead (capacity_bytes=...)"
        )

    # -- random numbers: none are drawn

    def manual_seed(self, seed: int) -> None:
        return None

    def manual_seed_all(self, seed: int) -> None:
        return None

    def seed(self) -> None:
        return None

    def seed_all(self) -> None:
        return None

    def initial_seed(self) -> int:
        return 0

    def get_rng_state(self, device: Any = "cuda") -> torch.Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return [self.get_rng_state() for _ in range(self._machine.device_count)]

    def set_rng_state(self, new_state: torch.Tensor, device: Any = "cuda") -> None:
        return None

    def set_rng_state_all(self, new_states: Any) -> None:
        return None
