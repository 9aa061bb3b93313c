"""Programs: what `torch.jit.save` and `torch.export.save` write holds weights, which virtual tensors have not.

As for `torch.save` such a file is not written. Unlike there its content is not kept: loading it is refused by name. PyTorch itself would
write a TorchScript archive without weights, and end the process with a fatal signal for an exported one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.refusals import refusal
from vramcast.virtual_cuda.saved import SavedFiles, SavedProgram, save_object
from vramcast.virtual_cuda.storages import HOST

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

LEFT_OUT = "{} was left out, for virtual tensors have no data: the file exists for who asks, and cannot be loaded,"
NOT_KEPT = "a program that was saved on a virtual GPU has no weights; use the module itself"
_MODULE_METHODS = {
    "save": "torch.jit.save",
    "_save_for_lite_interpreter": "ScriptModule._save_for_lite_interpreter",
}
_BUFFER_METHODS = {
    "save_to_buffer": "torch.jit.save",
    "_save_to_buffer_for_lite_interpreter": "ScriptModule._save_to_buffer_for_lite_interpreter",
}


def install(machine: VirtualGPU, patches: PatchSet, files: SavedFiles) -> None:
    """Replace what writes and reads programs, and what would make one of a model on the GPU."""
    _install_script(machine, patches, files)
    _install_export(machine, patches, files)


def refuse_program(saved: object, what: str) -> None:
    """Raise where a file that is about to be loaded was left out and holds a program.

    Raises:
        RecordingError: it does.
    """
    if isinstance(saved, SavedProgram):
        raise refusal(what, NOT_KEPT)


def _saved(machine: VirtualGPU, tensors: Iterable[Any]) -> SavedProgram | None:
    """The sizes of a program's tensors; None where all have data."""
    found = [tensor.detach() for tensor in tensors if isinstance(tensor, torch.Tensor)]
    if not any(machine.storages.of(tensor) is not None for tensor in found):
        return None
    saved = save_object(machine, found)
    return None if saved is None else SavedProgram(*saved)


def _install_script(machine: VirtualGPU, patches: PatchSet, files: SavedFiles) -> None:
    script: Any = torch.jit._script
    kinds = (
        script.RecursiveScriptModule,
        script.ScriptModule,
    )  # traced modules are of the second, with methods of its own

    def tensors_of(module: Any) -> list[torch.Tensor]:
        return [*module.parameters(), *module.buffers()]

    def to_path(original: Any, what: str) -> Any:

        def save(self: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            saved = _saved(machine, tensors_of(self))
            if saved is None:
                files.forget(f)
                return original(self, f, *args, **kwargs)
            files.keep(f, saved)
            machine.assumptions.add_with_line(LEFT_OUT.format(what))
            return None

        return save

    def to_buffer(original: Any, what: str) -> Any:

        def save(self: Any, *args: Any, **kwargs: Any) -> Any:
            saved = _saved(machine, tensors_of(self))
            if saved is None:
                return original(self, *args, **kwargs)
            machine.assumptions.add_with_line(LEFT_OUT.format(what))
            return files.token(saved)

        return save

    for kind in kinds:
        for name, what in _MODULE_METHODS.items():
            patches.set(kind, name, to_path(getattr(kind, name), what))
        for name, what in _BUFFER_METHODS.items():
            patches.set(kind, name, to_buffer(getattr(kind, name), what))
    _refuse_loading(patches, files, torch.jit, "load", "torch.jit.load of what torch.jit.save left out")


def _install_export(machine: VirtualGPU, patches: PatchSet, files: SavedFiles) -> None:
    save = torch.export.save

    def save_unless_virtual(ep: Any, f: Any, **settings: Any) -> None:
        saved = None if not isinstance(ep, torch.export.ExportedProgram) else _saved(machine, _tensors_in(ep))
        if saved is None:
            files.forget(f)
            save(ep, f, **settings)
            return
        files.keep(f, saved)
        machine.assumptions.add_with_line(LEFT_OUT.format("torch.export.save"))

    patches.set(torch.export, "save", save_unless_virtual)
    patches.reach_importers(save, save_unless_virtual)
    _refuse_loading(patches, files, torch.export, "load", "torch.export.load of what torch.export.save left out")
    for name in ("export", "draft_export"):
        original = getattr(torch.export, name)
        replacement = _unless_on_gpu(machine, f"torch.export.{name} of a model on the GPU", original)
        patches.set(torch.export, name, replacement)
        patches.reach_importers(original, replacement)


def _tensors_in(program: torch.export.ExportedProgram) -> list[Any]:
    examples = torch.utils._pytree.tree_leaves(program.example_inputs)
    return [*program.state_dict.values(), *program.constants.values(), *examples]


def _refuse_loading(patches: PatchSet, files: SavedFiles, module: Any, name: str, what: str) -> None:
    load = getattr(module, name)

    def load_unless_left_out(f: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_program(files.find(f), what)
        return load(f, *args, **kwargs)

    patches.set(module, name, load_unless_left_out)
    patches.reach_importers(load, load_unless_left_out)


def _unless_on_gpu(machine: VirtualGPU, what: str, export: Any) -> Any:
    """Tracing makes tensors that belong to CUDA's own library, whose absence ends the process."""

    def export_unless_on_gpu(mod: Any, args: Any, kwargs: Any = None, **settings: Any) -> Any:
        tensors = [*torch.utils._pytree.tree_leaves((args, kwargs))]
        if isinstance(mod, torch.nn.Module):
            tensors += [*mod.parameters(), *mod.buffers()]
        records = [machine.storages.of(each) for each in tensors if isinstance(each, torch.Tensor)]
        if any(record is not None and record.device != HOST for record in records):
            raise refusal(what, "it traces with tensors that need CUDA's own library; export it on the CPU")
        return export(mod, args, kwargs, **settings)

    return export_unless_on_gpu
