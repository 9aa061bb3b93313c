"""Parameters are virtual from birth: ties and identity survive `.cuda()`, and no host memory is taken."""

import subprocess
import sys

import torch
from torch import nn
from virtual_gpu_helpers import allocated, allocations, virtual_gpu

CUDA = torch.device("cuda", 0)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.head = nn.Linear(64, 1000, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_stay_one_tensor_and_are_counted_once() -> None:
    with virtual_gpu() as machine:
        model = Tied()
        weight = model.head.weight
        model.cuda()
        assert model.embedding.weight is model.head.weight is weight
        assert [a.nbytes for a in allocations(machine)] == [1000 * 64 * 4]
        assert machine.recording().parameters == 64_000
        assert machine.timeline.allocations[0].category == "parameters"


def test_an_optimizer_made_before_the_move_holds_the_moved_parameters() -> None:
    with virtual_gpu() as machine:
        model = nn.Linear(256, 256)
        optimizer = torch.optim.AdamW(model.parameters())
        model.to("cuda")
        held = optimizer.param_groups[0]["params"]
        assert [p is q for p, q in zip(held, model.parameters(), strict=True)] == [True, True]
        assert {p.device for p in held} == {CUDA}
        model(torch.randn(2, 256, device="cuda")).sum().backward()
        optimizer.step()
        assert [a.op for a in machine.timeline.allocations if a.category == "optimizer_states"].count("zeros_like") == 4


def test_moving_away_frees_and_dtype_changes_keep_identity() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(1024, 1024, bias=False)
        weight = layer.weight
        assert weight.device.type == "cpu"
        layer.cuda().half()
        assert (layer.weight is weight, weight.dtype, allocated(machine)) == (True, torch.float16, 2 << 20)
        layer.cpu()
        assert (weight.device.type, allocated(machine)) == ("cpu", 0)
        layer.to("cuda", torch.bfloat16)
        assert (weight.device, weight.dtype, allocated(machine)) == (CUDA, torch.bfloat16, 2 << 20)


def test_buffers_move_and_state_dicts_load() -> None:
    with virtual_gpu():
        model = nn.BatchNorm1d(8).cuda()
        assert model.running_mean.device == CUDA
        other = nn.BatchNorm1d(8).cuda()
        weight = other.weight
        other.load_state_dict(model.state_dict())
        assert other.weight is weight
        assert other.weight.device == CUDA
        assert int(model.num_batches_tracked) == 0


def test_a_20_gb_model_takes_no_host_memory() -> None:
    program = """
import resource, torch
from torch import nn
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with VirtualGPU(find_gpu("a100-80gb")) as machine:
    model = nn.Sequential(*(nn.Linear(16384, 16384, bias=False) for _ in range(20))).cuda()
    model(torch.randn(4, 16384, device="cuda")).sum().backward()
    assert torch.cuda.memory_allocated() > 40 * 10**9
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(finished.stdout) < 200  # MiB
