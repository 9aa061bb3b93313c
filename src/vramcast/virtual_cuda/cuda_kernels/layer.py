"""A dispatcher layer above autograd in which CUDA's own choices are put back.

On `meta` tensors PyTorch decomposes what CUDA runs as one kernel (dropout, attention, RMSNorm) and ignores CUDA's autocast. Both are
restored here with the dispatcher's own means: Python kernels registered under two autocast keys that no CPU build uses. They sit
above autograd exactly where CUDA's autocast sits, so they are seen by composite operators, by the backward engine and by
checkpoint's recomputation alike, without any Python mode being on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.library import Library, fallthrough_kernel

from vramcast.virtual_cuda.cuda_kernels import (
    attention,
    autocast,
    dropout,
    grouped_matmul,
    normalization,
    recurrent,
    softmax,
)

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

AUTOCAST_KEY: Any = getattr(torch._C.DispatchKey, "AutocastPrivateUse1")  # noqa: B009  (not in the type stubs)
CUDA_CHOICE_KEY: Any = getattr(torch._C.DispatchKey, "AutocastIPU")  # noqa: B009
"""Below `AUTOCAST_KEY` in the dispatcher's order, so that attention is chosen for the dtype that autocast has already set."""


def _without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` run with autocast switched off for everything inside it, as in C++."""
    keys = torch._C.DispatchKeySet(AUTOCAST_KEY)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return function(*args, **kwargs)

    return kernel


@contextmanager
def _included(key: Any) -> Iterator[None]:
    included = torch._C._dispatch_tls_is_dispatch_key_included(key)
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(key)
    torch._C._dispatch_tls_set_dispatch_key_included(key, True)
    torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_included(key, included)
        torch._C._dispatch_tls_set_dispatch_key_excluded(key, excluded)


@contextmanager
def included_keys() -> Iterator[None]:
    """Both keys on for this thread."""
    with _included(AUTOCAST_KEY), _included(CUDA_CHOICE_KEY):
        yield


def _register_meta_kernels(aten: Library) -> None:
    registrar: Any = aten.m
    with warnings.catch_warnings():
        # Replacing torch's own meta kernel is meant, and undone when the library is destroyed.
        warnings.filterwarnings("ignore", message=".*Overriding a previously registered kernel.*")
        for module in (normalization, grouped_matmul, recurrent):
            for name, function in module.meta_kernels():
                # `Library.impl` refuses a meta kernel where a composite one exists, although CUDA has a kernel of its own.
                registrar.impl(f"aten::{name}", "Meta", function, False)


@contextmanager
def cuda_kernel_layer(machine: VirtualGPU) -> Iterator[None]:
    """Register the kernels and switch both keys on for this thread; everything is undone at the end."""
    fallback, aten = Library("_", "IMPL"), Library("aten", "IMPL")
    try:
        for key in (AUTOCAST_KEY, CUDA_CHOICE_KEY):
            fallback.fallback(fallthrough_kernel, key.name)
        for name, function in (*autocast.kernels(machine), *recurrent.autocast_kernels(machine)):
            aten.impl(name, _without_autocast(function), AUTOCAST_KEY.name)
        for module in (dropout, attention, normalization, recurrent, softmax):
            for name, function in module.kernels(machine):
                aten.impl(name, function, CUDA_CHOICE_KEY.name)
        _register_meta_kernels(aten)
        with included_keys():
            yield
    finally:
        aten._destroy()
        fallback._destroy()
