"""safetensors reads and writes memory by address, which a virtual tensor does not have.

Saving one is left out and its content kept, as for `torch.save`; opening a file answers from what was kept, or moves what it reads.
Its readers are often imported by name, so that they are replaced in every module that holds them.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from vramcast.virtual_cuda.devices import parse_device
from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.saved import SavedFiles, load_object, save_object
from vramcast.virtual_cuda.storages import HOST, torch_device

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU
    from vramcast.virtual_cuda.saved import SavedObject

LEFT_OUT = (
    "safetensors left out the weights, for virtual tensors have no data: loading finds them again, "
    "opening the file or listing its folder does not,"
)


def install(machine: VirtualGPU, patches: PatchSet, files: SavedFiles) -> None:
    """Replace what safetensors opens and writes files with, if it is installed."""
    if find_spec("safetensors") is None:
        return
    module: Any = importlib.import_module("safetensors.torch")
    _install_writing(machine, patches, files, module)
    opened = _opener(machine, files, module.safe_open)
    patches.reach_importers(module.safe_open, opened)
    deserialize = module.load

    def load(data: bytes) -> Any:
        saved = files.behind(data)
        return deserialize(data) if saved is None else load_object(machine, saved, "cpu")["tensors"]

    patches.reach_importers(deserialize, load)


def _install_writing(machine: VirtualGPU, patches: PatchSet, files: SavedFiles, module: Any) -> None:
    """`save_file`, `save` and `save_model` all hand flattened tensors to one of two writers."""
    write_file, write_bytes = module.serialize_file, module.serialize
    for name in ("_flatten_as_ptr", "_flatten"):
        if hasattr(module, name):
            patches.set(module, name, _flattener(machine, getattr(module, name)))

    def serialize_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
        if not isinstance(tensors, _Virtual):
            write_file(tensors, filename, metadata=metadata)
            files.forget(filename)
            return
        files.keep(filename, _saved(machine, tensors, metadata))
        machine.assumptions.add_with_line(LEFT_OUT)

    def serialize(tensors: Any, metadata: Any = None) -> bytes:
        if not isinstance(tensors, _Virtual):
            return write_bytes(tensors, metadata=metadata)  # type: ignore[no-any-return]
        machine.assumptions.add_with_line(LEFT_OUT)
        return files.token(_saved(machine, tensors, metadata))

    patches.set(module, "serialize_file", serialize_file)
    patches.set(module, "serialize", serialize)


class _Virtual(dict[str, torch.Tensor]):
    """Tensors to be saved, some of which have no data."""


def _flattener(machine: VirtualGPU, flatten: Any) -> Any:
    def flatten_unless_virtual(tensors: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        if any(machine.storages.of(tensor) is not None for tensor in tensors.values()):
            return _Virtual(tensors)
        return flatten(tensors, *args, **kwargs)

    return flatten_unless_virtual


def _saved(machine: VirtualGPU, tensors: _Virtual, metadata: Any) -> SavedObject:
    with torch.no_grad():
        plain = {name: tensor.detach() for name, tensor in tensors.items()}
    saved = save_object(machine, {"tensors": plain, "metadata": metadata})
    assert saved is not None
    return saved


def _opener(machine: VirtualGPU, files: SavedFiles, safe_open: Any) -> Any:
    """A class, as `safe_open` is one."""

    class SafeOpen:
        """A safetensors file: one left out in this run, or a real one."""

        def __init__(self, filename: Any, framework: str = "pt", device: Any = "cpu", **settings: Any) -> None:
            target = parse_device(device, machine.current_device)
            self._target = HOST if target is None else target
            saved = files.find(filename)
            if saved is not None:
                self._content = _LeftOut(load_object(machine, saved, "cpu"))
            else:
                self._content = safe_open(filename, framework=framework, device="cpu", **settings)

        def __enter__(self) -> Any:
            self._content.__enter__()
            return self

        def __exit__(self, *exception: Any) -> Any:
            return self._content.__exit__(*exception)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._content, name)

        def get_tensor(self, name: str) -> torch.Tensor:
            return self._moved(self._content.get_tensor(name))

        def get_tensors(self) -> dict[str, torch.Tensor]:
            return {name: self.get_tensor(name) for name in self._content.keys()}

        def get_slice(self, name: str) -> Any:
            return _Slice(self._content.get_slice(name), self._moved)

        def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor if self._target == HOST else tensor.to(torch_device(self._target))

    return SafeOpen


class _Slice:
    """Part of a tensor in a file; indexing reads it."""

    def __init__(self, part: Any, moved: Any) -> None:
        self._part, self._moved = part, moved

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._moved(self._part[index])  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class _LeftOut:
    """What a file would have held, with the methods that `safe_open` has."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._tensors, self._metadata = content["tensors"], content["metadata"]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._tensors = {}

    def keys(self) -> list[str]:
        return sorted(self._tensors)

    def offset_keys(self) -> list[str]:
        return list(self._tensors)

    def metadata(self) -> Any:
        return self._metadata

    def get_tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]  # type: ignore[no-any-return]

    def get_slice(self, name: str) -> Any:
        return _VirtualSlice(self._tensors[name])


class _VirtualSlice:
    """What `safe_open(...).get_slice(name)` answers for a tensor without data."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._tensor[index]

    def get_shape(self) -> list[int]:
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        return _DTYPE_NAMES[self._tensor.dtype]


_DTYPE_NAMES = {
    dtype: name
    for name, dtype in (
        ("F64", torch.float64), ("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16), ("I64", torch.int64),
        ("I32", torch.int32), ("I16", torch.int16), ("I8", torch.int8), ("U8", torch.uint8), ("BOOL", torch.bool),
        ("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2), ("C64", torch.complex64),
    )
}  # fmt: skip
"""Names of dtypes in the header of a safetensors file."""
