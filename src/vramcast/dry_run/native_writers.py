"""Writers in C++ and Rust, which open files where Python raises no event: while a run lasts they tell the guard first.

Each is replaced at its lowest door, so that all that writes through it is heard: `torch.save`, `torch.export.save` and `torch.package` all
make a `PyTorchFileWriter`. What is not here (another library, an extension) is noticed afterwards, by `vramcast.put_aside.unseen`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vramcast.put_aside import FileGuard
from vramcast.virtual_cuda.patches.patch_set import PatchSet


class _Door(NamedTuple):
    """A function that writes to a path it is given."""

    owner: str
    """Module, or module and class."""
    name: str
    position: int
    """Of the path among the arguments, `self` counted."""
    keyword: str = ""
    """The path's name, where it may be given by name."""
    truncates: bool = True
    maps: bool = False
    """The next argument, `shared`, says whether the file is written at all: if so, what is put into a tensor is in the file."""


_DOORS = (
    _Door("torch._C.PyTorchFileWriter", "__init__", 1, "file_name"),
    _Door("torch._C.ScriptModule", "save", 1, "filename"),
    _Door("torch._C.ScriptModule", "_save_for_mobile", 1, "filename"),
    _Door("torch._C.ScriptFunction", "save", 1, "filename"),
    _Door("torch._C", "_save_jit_module", 1),
    _Door("torch._C", "_save_mobile_module", 1),
    _Door("torch._C", "_save_parameters", 1),
    _Door("torch._C", "_backport_for_mobile", 1),
    _Door("torch._C", "_backport_for_mobile_from_buffer", 1),
    _Door("torch._C._autograd._ProfilerResult", "save", 1),
    _Door("torch._C._profiler", "_add_execution_trace_observer", 0, "output_file_name"),
    _Door("torch._C._distributed_c10d.FileStore", "__init__", 1, "file_name", truncates=False),
    _Door("torch.UntypedStorage", "from_file", 0, "filename", truncates=False, maps=True),
    _Door("torch", "from_file", 0, "filename", truncates=False, maps=True),
    _Door("safetensors", "serialize_file", 1, "filename"),
    _Door("tokenizers.Tokenizer", "save", 1, "path"),
)
"""Names that a release of the library does not have are passed over."""
_VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "unigram.json")
"""Files that a model of tokenizers writes into a folder, after a prefix and a dash."""


@contextmanager
def guarded_writers(guard: FileGuard) -> Iterator[None]:
    """Inside the block, writers in native code tell the guard.

    To be entered before the virtual GPU, whose own replacements leave out what has no data: a file that is not written is not put aside.
    """
    patches = PatchSet()
    try:
        for door in _DOORS:
            owner = _owner(door.owner)
            if hasattr(owner, door.name):
                _watch(guard, patches, owner, door)
        _watch_vocabularies(guard, patches)
        patches.replace_in_importers()
        yield
    finally:
        patches.undo()


def _owner(path: str) -> Any:
    """The object of a dotted name; None where its library or a part of it is missing."""
    library, *parts = path.split(".")
    if library not in sys.modules and find_spec(library) is None:
        return None
    found: Any = importlib.import_module(library)
    for part in parts:
        found = getattr(found, part, None)
    return found


def _watch(guard: FileGuard, patches: PatchSet, owner: Any, door: _Door) -> None:
    original: Callable[..., Any] = getattr(owner, door.name)

    def heard(*arguments: Any, **settings: Any) -> Any:
        path = _argument(arguments, settings, door.position, door.keyword)
        if not door.maps or _argument(arguments, settings, door.position + 1, "shared"):
            guard.about_to_write(path, truncates=door.truncates)
        return original(*arguments, **settings)

    if not isinstance(owner, type):
        patches.set(owner, door.name, heard)
        patches.reach_importers(original, heard)
    elif door.position:
        patches.set(owner, door.name, heard)
    else:  # no `self`
        patches.set(owner, door.name, staticmethod(heard))


def _argument(arguments: Sequence[Any], settings: Mapping[str, Any], position: int, keyword: str) -> Any:
    return arguments[position] if len(arguments) > position else settings.get(keyword)


def _watch_vocabularies(guard: FileGuard, patches: PatchSet) -> None:
    model = _owner("tokenizers.models.Model")
    if model is None:
        return
    original = model.save

    def heard(self: Any, folder: Any, *arguments: Any, **settings: Any) -> Any:
        prefix = _argument(arguments, settings, 0, "prefix")
        for name in _VOCABULARIES:
            path = Path(os.fsdecode(folder), f"{prefix}-{name}" if prefix else name)
            if os.path.lexists(path):  # which of them it will write depends on the model
                guard.about_to_write(path, truncates=False)
        return original(self, folder, *arguments, **settings)

    patches.set(model, "save", heard)
