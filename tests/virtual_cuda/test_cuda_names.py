"""Every public name of `torch.cuda` is replaced, harmless or refused, and what is refused says what to do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.cpp_extension import load_inline
from virtual_gpu_helpers import MIB, virtual_gpu

from vramcast import RecordingError
from vramcast.virtual_cuda.refusals import cuda_names, library_advice

NAMES = sorted({name for name in dir(torch.cuda) if not name.startswith("_")} | set(torch.cuda.__all__))
REFUSED = cuda_names()["refused"]


def test_every_public_name_is_accounted_for() -> None:
    originals = {name: getattr(torch.cuda, name) for name in NAMES}
    with virtual_gpu():
        replaced = {name for name, original in originals.items() if getattr(torch.cuda, name) is not original}
    left_alone = {*cuda_names()["harmless"], *cuda_names()["imported"]}
    assert set(NAMES) - replaced - left_alone == set()
    assert replaced & left_alone == set()
    assert set(REFUSED) & set(NAMES) <= replaced


def test_the_file_names_nothing_else() -> None:
    """Names of other releases of torch may stand in it, misspelt ones may not: these are of this release."""
    named = {*cuda_names()["harmless"], *cuda_names()["imported"], *REFUSED}
    assert len(named - set(NAMES)) <= len(named) // 10


@pytest.mark.parametrize("name", [name for name in REFUSED if hasattr(torch.cuda, name)])
def test_refusals_name_the_call_and_the_way_out(name: str) -> None:
    with virtual_gpu(), pytest.raises(RecordingError, match=rf"torch\.cuda\.{name} cannot run .*: .*; "):
        getattr(torch.cuda, name)()


QUESTIONS: dict[str, Any] = {
    "memory_summary": lambda: torch.cuda.memory_summary().count("\n") > 20,
    "nested statistics": lambda: torch.cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"]["current"] == 0,
    "host statistics": lambda: torch.cuda.host_memory_stats() == {},
    "deprecated spellings": lambda: torch.cuda.get_allocator_backend() == "native",
    "device guards": lambda: _device_guards(),
    "nvtx": lambda: _nvtx(),
    "profiler": lambda: _profiler(),
    "tensor types": lambda: _tensor_types(),
    "power": lambda: torch.cuda.power_draw() == torch.cuda.temperature() == torch.cuda.utilization() == 0,
    "driver": lambda: torch.cuda.cudart().cudaMemGetInfo(0) == torch.cuda.mem_get_info(),
    "used memory": lambda: torch.cuda.device_memory_used() > 0 and "GPU:0" in torch.cuda.list_gpu_processes(),
    "properties": lambda: torch.cuda.get_device_properties(0).max_threads_per_multi_processor == 2048,
    "flags": lambda: torch.backends.cuda.is_built() and torch.cuda.get_gencode_flags().endswith("sm_80"),
    "random numbers": lambda: len(torch.cuda.default_generators) == 1,
}


def _device_guards() -> bool:
    with torch.cuda.device_of(torch.zeros(1, device="cuda")), torch.cuda.device(0), torch.cuda._DeviceGuard(0):
        return torch.cuda.current_device() == 0


def _nvtx() -> bool:
    with torch.cuda.nvtx.range("step"), torch.cuda.profiler.profile():
        torch.cuda.nvtx.mark("here")
    return torch.cuda.nvtx.range_push("a") == torch.cuda.nvtx.range_pop() == 0


def _profiler() -> bool:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        torch.zeros(4, device="cuda").add(1)
    return "aten::add" in profile.key_averages().table()


def _tensor_types() -> bool:
    x = torch.cuda.FloatTensor(2, 3)
    is_cuda = x.is_cuda and isinstance(x, torch.cuda.FloatTensor) and not isinstance(x, torch.cuda.HalfTensor)
    return is_cuda and torch.cuda.LongTensor([1, 2]).tolist() == [1, 2]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_answers(question: Any) -> None:
    with virtual_gpu():
        assert question()


def test_a_memory_fraction_limits_the_live_allocator() -> None:
    with virtual_gpu("rtx-3090") as machine:
        total = machine.gpu.cuda_total_bytes
        torch.cuda.set_per_process_memory_fraction(0.25)
        assert torch.cuda.get_per_process_memory_fraction() == 0.25
        torch.empty(total // 5, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate"):
            torch.empty(total // 3, dtype=torch.uint8, device="cuda")
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.empty(total // 3, dtype=torch.uint8, device="cuda")
        with pytest.raises(ValueError, match="Allowed range"):
            torch.cuda.set_per_process_memory_fraction(1.5)


def test_memory_history_is_written_for_the_viewer(tmp_path: Path) -> None:
    with virtual_gpu():
        torch.cuda.memory._record_memory_history(max_entries=1000)
        kept = torch.zeros(3 * MIB, device="cuda")
        torch.cuda.memory._dump_snapshot(str(tmp_path / "history.pickle"))
        torch.cuda.memory._record_memory_history(enabled=None)
        assert [segment["total_size"] for segment in torch.cuda.memory_snapshot()] == [12 * MIB]
        del kept
    snapshot = pickle.loads((tmp_path / "history.pickle").read_bytes())
    assert [entry["action"] for entry in snapshot["device_traces"][0]] == ["segment_alloc", "alloc"]


def test_cuda_extensions_are_refused() -> None:
    with virtual_gpu(), pytest.raises(RecordingError, match=r"load_inline\('scan'\) cannot run"):
        load_inline(name="scan", cpp_sources="", cuda_sources="__global__ void scan() {}")


def test_custom_operators() -> None:
    with torch.library._scoped_library("bitsandbytes", "DEF") as library:
        library.define("quantize(Tensor x) -> Tensor")
        library.define("known(Tensor x) -> Tensor")
        library.impl("known", torch.empty_like, "Meta")
        with virtual_gpu() as machine:
            x = torch.zeros(8, device="cuda")
            assert torch.ops.bitsandbytes.known(x).is_cuda
            assert any("bitsandbytes.known" in sentence for sentence in machine.assumptions.sentences())
            with pytest.raises(RecordingError, match=r"bitsandbytes\.quantize.*use the unquantised model"):
                torch.ops.bitsandbytes.quantize(x)


def test_advice_for_libraries_that_are_missing() -> None:
    assert "sdpa" in (library_advice("flash_attn.flash_attn_interface") or "")
    assert library_advice("numpy") is None


def test_default_devices() -> None:
    with virtual_gpu():
        torch.set_default_device("cuda")
        assert nn.LSTM(2, 2).weight_ih_l0.is_cuda and nn.BatchNorm1d(2).num_batches_tracked.is_cuda
        torch.set_default_device("meta")
        assert nn.Linear(2, 2).weight.is_meta and torch.get_default_device().type == "meta"
        torch.set_default_device("cpu")
        assert nn.Linear(2, 2).weight.device.type == "cpu"
        torch.set_default_device(None)
        lazy = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d()).cuda()
        lazy(torch.zeros(2, 5, device="cuda"))
        assert lazy[0].weight.shape == (8, 5) and lazy[0].weight.is_cuda and lazy[1].running_mean.is_cuda


def test_data_parallel_on_one_gpu() -> None:
    with virtual_gpu():
        model = nn.DataParallel(nn.Linear(3, 2).cuda())
        out = model(torch.zeros(4, 3, device="cuda"))
        out.sum().backward()
        assert out.shape == (4, 2) and model.module.weight.grad is not None
        with torch.accelerator.device_index(0):
            assert torch.accelerator.current_device_index() == 0


def test_compiled_modules_know_their_original() -> None:
    with virtual_gpu():
        module = nn.Linear(2, 2)
        assert not hasattr(module, "_orig_mod")
        assert torch.compile(module)._orig_mod is module
