"""Where loaded storages go: `map_location` of `torch.load`, read for storages that have no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from vramcast.virtual_cuda.devices import parse_device
from vramcast.virtual_cuda.storages import HOST, TRUE_META, DisableTorchFunction, raw_storage_device, torch_device

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

LOAD_LABEL = "load_from_file"
"""What a storage loaded onto the GPU is called in the timeline."""


class StorageSpec(NamedTuple):
    """One storage of a saved object."""

    nbytes: int
    device: int | None
    """Tag of a virtual storage; None for a real one on the CPU."""
    content: torch.UntypedStorage | None
    """Bytes of a real one."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    """Those of the first tensor that filled the storage; bytes if none did."""


Place = Callable[[StorageSpec], torch.UntypedStorage]


def read_map_location(machine: VirtualGPU, map_location: Any) -> Place:
    """How to make each storage of a saved object on the device that the caller wants."""

    def place(spec: StorageSpec) -> torch.UntypedStorage:
        if callable(map_location):
            given = spec.content.clone() if spec.content is not None else virtual_storage(machine, spec, HOST)
            answer = map_location(given, location_tag(spec.device))
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        target = target_device(machine, map_location, spec.device)
        if spec.content is not None and target == HOST:
            copy: torch.UntypedStorage = spec.content.clone()
            return copy
        return virtual_storage(machine, spec, target)

    return place


def location_tag(device: int | None) -> str:
    """What `torch.save` writes beside a storage: `cpu`, `cuda:0` or `meta`."""
    return "cpu" if device is None else str(torch_device(device))


def target_device(machine: VirtualGPU, map_location: Any, saved_on: int | None) -> int:
    """Tag of the device where a storage saved on `saved_on` is wanted; a callable has been asked before."""
    home = HOST if saved_on is None else saved_on
    wanted = map_location
    if isinstance(map_location, dict):
        wanted = map_location.get(location_tag(saved_on))
    if wanted is None or callable(wanted):
        return home
    target = parse_device(wanted, machine.current_device)
    if target is None:
        raise RuntimeError(f"don't know how to restore data location of a storage (tagged with {wanted})")
    return target


def virtual_storage(machine: VirtualGPU, spec: StorageSpec, target: int) -> torch.UntypedStorage:
    """A new virtual storage on `target`; on a GPU it is allocated."""
    before = machine.forced_device, machine.factory_device, machine.operator_label
    machine.forced_device, machine.factory_device = (None if target == TRUE_META else target), target
    machine.operator_label = LOAD_LABEL
    shape = spec.shape or (spec.nbytes // spec.dtype.itemsize,)
    try:
        with DisableTorchFunction():
            return torch.empty(shape, dtype=spec.dtype, device="meta").untyped_storage()
    finally:
        machine.forced_device, machine.factory_device, machine.operator_label = before


def tensor_in_storage(
    machine: VirtualGPU,
    storage: torch.UntypedStorage,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
) -> torch.Tensor:
    """A tensor that views a storage; the storage keeps its tag, or its lack of one."""
    before = machine.forced_device, machine.factory_device
    machine.forced_device, machine.factory_device = None, TRUE_META
    try:
        with DisableTorchFunction(), torch.no_grad():
            tensor = torch.empty(0, dtype=dtype, device=raw_storage_device(storage))
            return tensor.set_(storage, offset, shape, stride)
    finally:
        machine.forced_device, machine.factory_device = before
