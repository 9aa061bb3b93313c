"""After the `with` block torch is as it was: no patch, no hook, no kernel, no mode is left, also after an error."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.backends.cudnn.rnn
import torch.nn.attention.flex_attention as flex_attention
import torch.nn.functional as F
import torch.utils.cpp_extension as cpp_extension
import transformers.modeling_utils
from torch.nn.modules import module as module_hooks
from torch.optim import optimizer as optimizer_hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from virtual_gpu_helpers import virtual_gpu

from vramcast.errors import VramcastError
from vramcast.virtual_cuda.cuda_kernels.layer import AUTOCAST_KEY, CUDA_CHOICE_KEY

PLACES = (
    torch, torch.Tensor, torch.nn.Parameter, torch.UntypedStorage, torch.cuda, torch.cuda.memory, torch.cuda.random,
    torch.cuda.streams, torch.cuda.amp, torch.accelerator, torch.autograd, torch.autograd.graph,
    torch.autograd.graph.saved_tensors_hooks, torch.version, torch.backends.cuda, torch.backends.cudnn, torch._C, F,
    torch.optim.Optimizer, torch.utils.data.DataLoader, torch.serialization, torch.nn.Module, torch.nn.UninitializedParameter,
    torch.nn.UninitializedBuffer, torch.cuda.nvtx, torch.cuda.nccl, torch.cuda.graphs, torch.cuda.jiterator, torch.cuda.profiler,
    torch._dynamo, torch.compiler, torch.autograd.profiler.profile, torch.backends.cudnn.rnn, flex_attention, cpp_extension, safetensors,
    safetensors.torch, os, threading.Thread, transformers.modeling_utils,
)  # fmt: skip
HOOKS = (
    (module_hooks, "_global_forward_hooks"),
    (module_hooks, "_global_forward_pre_hooks"),
    (module_hooks, "_global_forward_hooks_always_called"),
    (optimizer_hooks, "_global_optimizer_pre_hooks"),
    (optimizer_hooks, "_global_optimizer_post_hooks"),
)
OPERATORS = (
    "aten::dropout",
    "aten::scaled_dot_product_attention",
    "aten::rms_norm",
    "aten::softmax.int",
    "aten::linear",
    "aten::sum",
    "aten::lstm.input",
    "aten::_cudnn_rnn",
    "aten::_cudnn_rnn_backward",
)


def state() -> dict[str, Any]:
    """Every attribute of the patched places, hooks, modes and kernels."""
    found: dict[str, Any] = {}
    for place in PLACES:
        found |= {
            f"{place.__name__}.{name}": value
            for name, value in vars(place).items()
            if not name.startswith("__") or name == "__new__" or name == "__init__"
        }
    found |= {f"{owner.__name__}.{name}": len(getattr(owner, name)) for owner, name in HOOKS}
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    for key in (AUTOCAST_KEY, CUDA_CHOICE_KEY):
        found |= {f"{name} {key}": has_kernel(name, key.name) for name in OPERATORS}
        found[f"included {key}"] = torch._C._dispatch_tls_is_dispatch_key_included(key)
        found[f"excluded {key}"] = torch._C._dispatch_tls_is_dispatch_key_excluded(key)
    found["meta kernel of the fused norm"] = has_kernel("aten::_fused_rms_norm", "Meta")
    found["modes"] = (len(_get_current_function_mode_stack()), len(_get_current_dispatch_mode_stack()))
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    absent = object()
    return [
        name
        for name in before | after
        if before.get(name, absent) is not after.get(name, absent) and before.get(name) != after.get(name)
    ]


def use_everything() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.1), torch.nn.RMSNorm(8)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(torch.randn(4, 8, device="cuda")).sum()
    loss.backward()
    optimizer.step()
    torch.cuda.synchronize()
    torch.nn.LSTM(4, 4).cuda()(torch.zeros(2, 1, 4, device="cuda"))
    pickle.loads(pickle.dumps(model))
    torch.compile(model)
    thread = threading.Thread(target=torch.zeros, args=(1,), kwargs={"device": "cuda"})
    thread.start()
    thread.join()
    torch.set_default_device("cuda")


def test_nothing_is_left() -> None:
    before = state()
    with virtual_gpu():
        assert len(differences(before, state())) > 100
        use_everything()
    assert differences(before, state()) == []


def test_nothing_is_left_in_a_fresh_process() -> None:
    """What one run leaves behind, a second run in the same process would no longer show."""
    program = (
        "from test_full_undo import *\nbefore = state()\nwith virtual_gpu():\n    use_everything()\n"
        "print(differences(before, state()))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert finished.stdout.strip() == "[]"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error(error: type[BaseException]) -> None:
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return x * 2

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            raise error("in backward")

    before = state()
    with pytest.raises(error), virtual_gpu():
        use_everything()
        Failing.apply(torch.randn(4, device="cuda", requires_grad=True)).sum().backward()
    assert differences(before, state()) == []


def test_an_error_while_entering_is_undone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = virtual_gpu()
    before = state()
    with monkeypatch.context() as patch:
        patch.setattr(machine.modules, "install", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            machine.__enter__()
    assert differences(before, state()) == []
    with virtual_gpu():
        assert torch.zeros(1, device="cuda").is_cuda


def test_cpu_kernels_decompose_as_before() -> None:
    with virtual_gpu():
        use_everything()
    x = torch.ones(64, requires_grad=True)
    assert "native_dropout" not in type(F.dropout(x, 0.5).grad_fn).__name__.lower()
    assert type(F.dropout(x, 0.5).grad_fn).__name__ == "MulBackward0"
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    norm = torch.nn.RMSNorm(8, device="meta")
    assert norm(torch.randn(2, 8, device="meta")).is_meta
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")
    assert not torch.cuda.is_available()
    assert torch.zeros(1).device.type == "cpu"


def test_two_machines_one_after_another_are_independent() -> None:
    peaks = []
    for _ in range(2):
        with virtual_gpu() as machine:
            use_everything()
        peaks.append((machine.peak_allocated_bytes, len(machine.timeline.events)))
    assert peaks[0] == peaks[1]


def test_nesting_is_refused() -> None:
    with virtual_gpu() as outer:
        with pytest.raises(VramcastError, match="active already; leave its `with` block first"), virtual_gpu():
            pass
        torch.zeros(100, device="cuda")
        assert outer.peak_allocated_bytes == 512
    with virtual_gpu():
        pass


def test_tensors_that_outlive_the_machine_die_quietly() -> None:
    with virtual_gpu() as machine:
        x = torch.zeros(100, device="cuda")
    events = len(machine.timeline.events)
    assert x.device.type == "meta"
    del x
    assert len(machine.timeline.events) == events


def test_names_imported_by_others_are_put_back() -> None:
    """A module that took the name before, and one that takes it while the machine is there."""
    before = transformers.modeling_utils.safe_open
    module = type(sys)("imports_meanwhile")
    sys.modules[module.__name__] = module
    try:
        with virtual_gpu():
            assert transformers.modeling_utils.safe_open is not before
            exec("from torch.cuda import is_available\nfrom safetensors import safe_open", vars(module))
            assert vars(module)["is_available"]()
        assert transformers.modeling_utils.safe_open is before is vars(module)["safe_open"]
        assert vars(module)["is_available"] is torch.cuda.is_available
    finally:
        del sys.modules[module.__name__]


def test_libraries_forget_the_machine() -> None:
    from accelerate.state import PartialState
    from transformers.utils import is_torch_bf16_gpu_available, is_torch_cuda_available

    asked = (is_torch_cuda_available, is_torch_bf16_gpu_available)
    before = dict(PartialState._shared_state)
    assert [function() for function in asked] == [False, False]
    with virtual_gpu():
        assert [function() for function in asked] == [True, True]
        assert PartialState().device.type == "cuda"
    assert [function() for function in asked] == [False, False]
    assert PartialState._shared_state == before


def test_a_thread_that_outlives_the_machine_sees_torch_as_it_is() -> None:
    begin, devices = threading.Event(), []

    def make() -> None:
        begin.wait()
        devices.append(torch.zeros(1).device.type)

    with virtual_gpu():
        thread = threading.Thread(target=make)
        thread.start()
    begin.set()
    thread.join()
    assert devices == ["cpu"]
