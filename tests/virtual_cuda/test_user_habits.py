"""What users' code does beside training: many GPUs in one process, beam search, convolutions, copies, snapshots of a full GPU."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn
from virtual_gpu_helpers import virtual_gpu

from vramcast.units import MIB
from vramcast.virtual_cuda.source_lines import running_line

HIDDEN = 16


def test_data_parallel_sums_gradients_larger_than_its_buffers() -> None:
    """Each GPU makes its own gradient, and they are summed in one more tensor on the first (`torch/nn/parallel/comm.py`)."""
    with virtual_gpu(device_count=4) as machine:
        model = nn.DataParallel(nn.Linear(2048, 4096, bias=False).cuda())
        model(torch.randn(64, 2048, device="cuda")).sum().backward()
        (weight,) = model.parameters()
        assert weight.grad is not None
        assert (weight.grad.shape, weight.grad.device.index) == (weight.shape, 0)
        matrices = [each.statistics.all.allocated_bytes_peak // (32 * MIB) for each in machine.allocators]
        assert matrices == [3, 1, 1, 1]


def test_beam_search_goes_on_to_its_longest() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    calls = []
    with virtual_gpu(), torch.no_grad():
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=HIDDEN, intermediate_size=HIDDEN, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
            )
        ).cuda()
        model.register_forward_hook(lambda *_: calls.append(1))
        model.generate(torch.randint(3, 32, (2, 4), device="cuda"), max_new_tokens=5, num_beams=2, pad_token_id=0)
    assert len(calls) == 5


def test_convolutions_say_what_is_not_counted() -> None:
    with virtual_gpu() as machine:
        nn.Linear(8, 8).cuda()(torch.randn(2, 8, device="cuda"))
        assert "cuDNN" not in " ".join(machine.assumptions.sentences())
        nn.Conv2d(3, 8, 3).cuda()(torch.randn(2, 3, 16, 16, device="cuda"))
    assert [text for text in machine.assumptions.sentences() if "workspaces for convolutions" in text]


def test_the_line_is_not_in_the_standard_library() -> None:
    with virtual_gpu(track_lines=True) as machine:
        copied = copy.deepcopy(nn.Linear(8, 8, bias=False).cuda())
        assert machine.source_lines is not None
        assert str(machine.source_lines.of_allocations[-1]).startswith(Path(__file__).name)
        del copied


def test_a_thread_of_the_standard_library_has_its_line() -> None:
    """No frame of anybody else is below it."""
    with ThreadPoolExecutor(1) as pool:
        line = pool.submit(running_line).result()
    assert line.path.endswith("thread.py")


def test_a_snapshot_of_a_full_gpu_is_of_that_gpu(tmp_path: Path) -> None:
    """Within its capacity the cache was given back; a snapshot that forgot the capacity would hold both segments."""
    path = tmp_path / "full.pickle"
    with virtual_gpu(capacity_bytes=100 * MIB):
        first = torch.empty(60 * MIB, dtype=torch.uint8, device="cuda")
        del first
        second = torch.empty(80 * MIB, dtype=torch.uint8, device="cuda")
        reserved = torch.cuda.memory_reserved()
        torch.cuda.memory._dump_snapshot(str(path))
        del second
    segments = pickle.loads(path.read_bytes())["segments"]
    assert reserved == 80 * MIB == sum(segment["total_size"] for segment in segments)
