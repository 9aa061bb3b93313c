"""The cast lists against those PyTorch was built with, and the dtypes that come out against its own test lists."""

from __future__ import annotations

import re
import sys
import unittest
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from virtual_gpu_helpers import virtual_gpu

from vramcast.virtual_cuda.cuda_kernels import autocast

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
MACROS = {
    "AT_FORALL_LOWER_PRECISION_FP": autocast.LOWER_PRECISION,
    "AT_FORALL_FP32": autocast.FP32,
    "AT_FORALL_FP32_SET_OPT_DTYPE": autocast.FP32_OUTPUT,
    "AT_FORALL_PROMOTE": autocast.PROMOTE,
}
NOT_REPRODUCED = {
    "binary_cross_entropy": "refused by CUDA's autocast: a run that gets there ends in an error",
    "cudnn_convolution": "called by name only by code that bypasses `conv2d`, whose own rule comes first",
    "cudnn_convolution_transpose": "as cudnn_convolution",
}


@pytest.mark.parametrize("macro", MACROS)
def test_lists_are_those_of_the_installed_header(macro: str) -> None:
    body = re.search(rf"#define {macro}\(_\)\s*\\\n((?:.*\\\n)*.*\n)", HEADER.read_text())
    assert body is not None
    entries = re.findall(r"_\(\s*(\w+)(?:\s*,\s*(\w+))?\s*\)", body.group(1))
    assert [".".join(filter(None, entry)) for entry in entries] == MACROS[macro]


def test_every_operator_with_an_autocast_kernel_is_known() -> None:
    registered = {
        name.removeprefix("aten::")
        for name in torch._C._dispatch_get_all_op_names()
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, "AutocastCUDA")
    }
    ours = {*(name for names in MACROS.values() for name in names), *autocast.FP32_APPEND_DTYPE}
    assert ours - registered == set()
    assert registered - ours == set(NOT_REPRODUCED)


@pytest.fixture(scope="module")
def torchs_lists() -> Any:
    """It needs a flag and a base class of a module that imports test-only packages; it gets those alone."""
    name = "torch.testing._internal.common_utils"
    stub, before = ModuleType(name), sys.modules.get(name)
    stub.TEST_WITH_ROCM, stub.TestCase = False, unittest.TestCase  # type: ignore[attr-defined]
    sys.modules[name] = stub
    try:
        from torch.testing._internal.autocast_test_lists import AutocastTestLists
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
    return AutocastTestLists


NOT_COMPARED = {
    "cudnn_convolution": "exists on CUDA alone",
    "cudnn_convolution_transpose": "exists on CUDA alone",
    "einsum": "its entry in the list is malformed",
    "equal": "gives no tensor",
}


PLACES = (torch, torch.nn.functional, torch._C._nn, torch._C._linalg, torch.Tensor)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("torch_fp16", "nn_fp16", "linalg_fp16", "methods_fp16"), "lower"),
        (("torch_fp32", "nn_fp32", "methods_fp32"), "fp32"),
        (("torch_need_autocast_promote",), "fp32"),
        (("torch_expect_builtin_promote",), None),
    ],
)
def test_dtypes_agree_with_torchs_own_lists(
    torchs_lists: Any, names: tuple[str, ...], wanted: str | None, precision: torch.dtype
) -> None:
    seen = 0
    with virtual_gpu(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lists = torchs_lists(torch.device("cuda"))
        for name, args, keywords, *expected in (_entry(entry) for kind in names for entry in getattr(lists, kind, ())):
            if name in NOT_COMPARED:
                continue
            dtype = {"lower": precision, "fp32": torch.float32, None: expected[0] if expected else None}[wanted]
            with torch.autocast("cuda", precision):
                function = next(getattr(place, name) for place in PLACES if hasattr(place, name))
                out = function(*args, **keywords)
            first = next(
                (x for x in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(x, torch.Tensor)), None
            )
            assert first is not None and first.dtype == dtype, f"{name}: {first}"
            seen += 1
    assert seen > 1


def _entry(entry: Any) -> Any:
    name, args, *rest = entry
    keywords = next((part for part in rest if isinstance(part, dict)), {})
    dtypes = [part for part in rest if isinstance(part, torch.dtype)]
    return name, args, keywords, *dtypes
