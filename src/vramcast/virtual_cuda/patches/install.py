"""Puts all patches in place for one virtual GPU and takes them away again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vramcast.virtual_cuda.patches import (
    autograd,
    compilation,
    cuda_api,
    data_parallel,
    distributed,
    extensions,
    flex_attention,
    generators,
    library_state,
    optimizers,
    parameters,
    pinned_memory,
    profiling,
    saving,
    storage_methods,
    streams,
    threads,
)
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


@contextmanager
def installed_patches(machine: VirtualGPU) -> Iterator[None]:
    """Patches for the length of the block; all are undone at its end, also after an exception."""
    patches = PatchSet()
    remember = library_state.forget_machine()
    removers = []
    try:
        for room in (
            parameters,
            autograd,
            storage_methods,
            streams,
            cuda_api,
            compilation,
            generators,
            pinned_memory,
            saving,
            threads,
            profiling,
            flex_attention,
        ):
            room.install(machine, patches)
        data_parallel.install(patches)
        extensions.install(patches)
        removers = [*optimizers.install(machine, patches), *distributed.install(machine, patches)]
        patches.replace_in_importers()
        yield
    finally:
        for remove in removers:
            remove()
        patches.undo()
        remember()
