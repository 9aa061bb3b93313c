"""`torch.cuda` and `torch.accelerator` as code sees them: answered from the GPU's data and from the simulated allocator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.backends.cudnn.rnn as cudnn_rnn

from vramcast.hardware import ASSUMED_MULTIPROCESSORS
from vramcast.virtual_cuda.cuda_kernels.recurrent_sizes import CUDNN_MODES
from vramcast.virtual_cuda.devices import CPU, parse_device
from vramcast.virtual_cuda.patches import cuda_telemetry, tensor_types
from vramcast.virtual_cuda.patches.cuda_telemetry import CudaTelemetry
from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.refusals import cuda_names, refused_class, refused_function
from vramcast.virtual_cuda.storages import torch_device

if TYPE_CHECKING:
    from vramcast.allocator.caching_allocator import CachingAllocator
    from vramcast.virtual_cuda.machine import VirtualGPU

PRETENDED_CUDA_VERSION = "12.8"
PRETENDED_CUDNN_VERSION = 91002
VIRTUAL_UUID = "00000000-0000-0000-0000-000000000000"
THREADS_PER_MULTIPROCESSOR = {(7, 5): 1024, (8, 6): 1536, (8, 9): 1536, (12, 0): 1536}
"""By compute capability, where it is not 2048 (CUDA C++ Programming Guide, technical specifications)."""


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace every function of `torch.cuda` that the two classes have, and what goes with it."""
    api = CudaApi(machine)
    for answers in (api, CudaTelemetry(machine)):
        _replace_functions(answers, patches)
    cuda_telemetry.install(machine, patches)
    patches.set(torch.cuda, "_initialized", True)
    patches.set(torch.cuda, "default_generators", tuple(torch.Generator() for _ in range(machine.device_count)))
    _install_refusals(patches)
    tensor_types.install(machine, patches)
    patches.set(torch._C, "_get_accelerator", lambda *args: torch.device("cuda"))
    patches.set(torch.version, "cuda", PRETENDED_CUDA_VERSION)
    patches.set(torch.backends.cuda, "is_built", lambda: True)
    patches.set(torch.backends.cuda, "is_flash_attention_available", lambda: machine.compute_capability >= (8, 0))
    patches.set(torch.backends.cudnn, "is_available", lambda: True)
    patches.set(torch.backends.cudnn, "version", lambda: PRETENDED_CUDNN_VERSION)
    patches.set(torch.backends.cudnn, "is_acceptable", lambda tensor: _suits_cudnn(machine, tensor))
    patches.set(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    patches.set(cudnn_rnn, "get_cudnn_mode", CUDNN_MODES.__getitem__)
    _install_accelerator(api, patches)
    _install_default_device(machine, patches)


def _replace_functions(answers: object, patches: PatchSet) -> None:
    """Each method replaces the function of its name, also where it was imported by name before."""
    for name in (name for name in dir(type(answers)) if not name.startswith("__")):
        replacement = getattr(answers, name)
        for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
            original = vars(module).get(name)
            if original is not None:
                patches.set(module, name, replacement)
                patches.reach_importers(original, replacement)


def _install_refusals(patches: PatchSet) -> None:
    for name, reason in cuda_names()["refused"].items():
        original = getattr(torch.cuda, name, None)
        if original is None:
            continue
        refuse = refused_class if isinstance(original, type) else refused_function
        refused = refuse(f"torch.cuda.{name}", reason)
        for module in (torch.cuda, torch.cuda.memory, torch.cuda.graphs):
            if hasattr(module, name):
                patches.set(module, name, refused)
        patches.reach_importers(original, refused)
    reason = "kernels compiled at run time are not followed; use the operators of torch that they stand for"
    patches.set(torch.cuda.jiterator, "_create_jit_fn", refused_function("torch.cuda.jiterator", reason))
    patches.set(torch.cuda, "_compile_kernel", refused_function("torch.cuda._compile_kernel", reason))


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
    for name in ("_accelerator_exchangeDevice", "_accelerator_maybeExchangeDevice"):
        patches.set(torch._C, name, api._exchange_device)


def _install_default_device(machine: VirtualGPU, patches: PatchSet) -> None:
    # Torch's own default-device mode would sit below ours and reach for a real CUDA device.
    original_get, original_type = torch.get_default_device, torch.set_default_tensor_type

    def set_default_device(device: Any) -> None:
        target = None if device is None else parse_device(device, machine.current_device)
        machine.default_device = None if target == CPU else target

    def get_default_device() -> torch.device:
        return original_get() if machine.default_device is None else torch_device(machine.default_device)

    def set_default_tensor_type(kind: Any) -> None:
        name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
        on_cuda = name.startswith("torch.cuda.")
        original_type(name.replace("torch.cuda.", "torch."))
        set_default_device("cuda" if on_cuda else None)

    patches.set(torch, "set_default_device", set_default_device)
    patches.set(torch, "get_default_device", get_default_device)
    patches.set(torch, "set_default_tensor_type", set_default_tensor_type)


def _suits_cudnn(machine: VirtualGPU, tensor: torch.Tensor) -> bool:
    enabled: bool = torch._C._get_cudnn_enabled()
    return enabled and machine.is_on_gpu(tensor) and tensor.dtype in torch.backends.cudnn.CUDNN_TENSOR_DTYPES


class CudaApi:
    """Each method stands in for the function of `torch.cuda` with its name."""

    def __init__(self, machine: VirtualGPU) -> None:
        self._machine = machine
        self._fractions: dict[int, float] = {}

    def _index(self, device: Any) -> int:
        index = None if device is None else parse_device(device, self._machine.current_device)
        return self._machine.current_device if index is None or index < 0 else index

    def _allocator(self, device: Any = None) -> CachingAllocator:
        return self._machine.allocators[self._index(device)]

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

    def _exchange_device(self, device: int) -> int:
        before = self._machine.current_device
        if device is not None and device >= 0:
            self._machine.current_device = device
        return before

    def _maybe_exchange_device(self, device: int) -> int:
        return self._exchange_device(device)

    def get_device_name(self, device: Any = None) -> str:
        return self._machine.device_name

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        return self._machine.compute_capability

    def get_device_properties(self, device: Any = None) -> SimpleNamespace:
        gpu = self._machine.gpu
        major, minor = self._machine.compute_capability
        return SimpleNamespace(
            name=self._machine.device_name,
            total_memory=gpu.cuda_total_bytes,
            major=major,
            minor=minor,
            multi_processor_count=gpu.multiprocessor_count or ASSUMED_MULTIPROCESSORS,
            is_integrated=0,
            is_multi_gpu_board=0,
            max_threads_per_multi_processor=THREADS_PER_MULTIPROCESSOR.get((major, minor), 2048),
            max_threads_per_block=1024,
            regs_per_multiprocessor=65_536,
            shared_memory_per_block=49_152,
            warp_size=32,
            gcnArchName=self._machine.device_name,
            uuid=VIRTUAL_UUID,
            pci_bus_id=self._index(device),
            pci_device_id=0,
            pci_domain_id=0,
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
        self._machine.device_memory.host_waits_for_device()

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

    def memory_stats_as_nested_dict(self, device: Any = None) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for key, value in self.memory_stats(device).items():
            *folders, last = key.split(".")
            place = nested
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last] = value
        return nested

    def host_memory_stats_as_nested_dict(self) -> dict[str, Any]:
        return {}

    def reset_peak_host_memory_stats(self) -> None:
        return None

    def reset_accumulated_host_memory_stats(self) -> None:
        return None

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        self._allocator(device).reset_peak_stats()
        self._machine.device_memory.note_reset_peak()

    def reset_max_memory_allocated(self, device: Any = None) -> None:
        self.reset_peak_memory_stats(device)

    def reset_max_memory_cached(self, device: Any = None) -> None:
        self.reset_peak_memory_stats(device)

    def reset_accumulated_memory_stats(self, device: Any = None) -> None:
        return None

    def empty_cache(self) -> None:
        self._machine.device_memory.empty_cache()

    def ipc_collect(self) -> None:
        return None

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        total = self._machine.gpu.cuda_total_bytes
        used = self._allocator(device).statistics.all.reserved_bytes + self._machine.context_bytes()
        return max(total - used, 0), total

    def set_per_process_memory_fraction(self, fraction: float, device: Any = None) -> None:
        if not isinstance(fraction, float):
            raise TypeError("Invalid type for fraction argument, must be `float`")
        if not 0 <= fraction <= 1:
            raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
        self._fractions[self._index(device)] = fraction
        total = self._machine.gpu.cuda_total_bytes
        self._allocator(device).driver.allowed = None if fraction == 1 else int(fraction * total)

    def get_per_process_memory_fraction(self, device: Any = None) -> float:
        return self._fractions.get(self._index(device), 1.0)

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
