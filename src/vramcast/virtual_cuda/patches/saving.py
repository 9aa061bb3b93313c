"""`torch.save` and `torch.load` of virtual tensors: the content is kept in memory, and no file is written that looks like a checkpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches import safetensors_files, saved_paths, saved_programs
from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.saved import SavedFiles, load_object, save_object
from vramcast.virtual_cuda.saved.files import is_path
from vramcast.virtual_cuda.saved.real_files import load_real_file

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

TO_PATH = (
    "torch.save was left out, for virtual tensors have no data: torch.load finds the content again, "
    "opening the file or listing its folder does not,"
)
TO_FILE_OBJECT = (
    "torch.save was left out, for virtual tensors have no data: the file object got a short token in place of them,"
)


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `torch.save`, `torch.load`, and what safetensors, TorchScript and `torch.export` do with files."""
    files = SavedFiles()
    save, load = torch.save, torch.load

    def save_unless_virtual(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        saved = save_object(machine, obj)
        if saved is None:
            save(obj, f, *args, **kwargs)
            files.forget(f)
            return
        files.keep(f, saved)
        machine.assumptions.add_with_line(TO_PATH if is_path(f) else TO_FILE_OBJECT)

    def load_virtual(
        f: Any,
        map_location: Any = None,
        pickle_module: Any = None,
        *,
        weights_only: bool | None = None,
        mmap: bool | None = None,
        **settings: Any,
    ) -> Any:
        saved = files.find(f)
        if saved is not None:
            saved_programs.refuse_program(saved, "torch.load of a program that was left out")
            return load_object(machine, saved, map_location, _only_weights(weights_only, pickle_module))
        settings |= {"pickle_module": pickle_module, "weights_only": weights_only, "mmap": mmap}
        return load_real_file(machine, load, f, map_location, settings)

    for module in (torch, torch.serialization):
        patches.set(module, "save", save_unless_virtual)
        patches.set(module, "load", load_virtual)
    patches.reach_importers(save, save_unless_virtual)
    patches.reach_importers(load, load_virtual)
    safetensors_files.install(machine, patches, files)
    saved_programs.install(machine, patches, files)
    saved_paths.install(patches, files)


def _only_weights(asked: bool | None, pickle_module: Any) -> bool:
    """torch's default: yes, unless a pickle module or an environment variable says otherwise."""
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0") in ("1", "y", "yes", "true"):
        return True
    if asked is None and os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0") in ("1", "y", "yes", "true"):
        return False
    return asked if asked is not None else pickle_module is None
