"""CUDA code that is compiled while a script runs is refused by name; CPU extensions are built as always."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.utils.cpp_extension as cpp_extension

from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.refusals import refusal

REASON = "a CUDA extension is compiled and runs kernels that no trace can see; use the implementation in plain PyTorch"


def install(patches: PatchSet) -> None:
    """Replace `load` and `load_inline` of `torch.utils.cpp_extension`."""
    for name in ("load", "load_inline"):
        original = getattr(cpp_extension, name)
        replacement = _unless_cuda(name, original)
        patches.set(cpp_extension, name, replacement)
        patches.reach_importers(original, replacement)


def _unless_cuda(name: str, build: Callable[..., Any]) -> Callable[..., Any]:
    def build_unless_cuda(*args: Any, **kwargs: Any) -> Any:
        given = [*args[1:2], kwargs.get("sources", [])]
        sources = [source for part in given for source in ([part] if isinstance(part, str) else part or [])]
        is_cuda = kwargs.get("with_cuda") or kwargs.get("cuda_sources")
        if is_cuda or any(Path(source).suffix in (".cu", ".cuh") for source in sources if len(source) < 4096):
            raise refusal(f"torch.utils.cpp_extension.{name}({kwargs.get('name', args[0] if args else '')!r})", REASON)
        return build(*args, **kwargs)

    return build_unless_cuda
