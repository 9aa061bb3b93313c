"""What each byte is for, when it was asked for, and by which module."""

from collections import Counter, defaultdict

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from virtual_gpu_helpers import allocations, virtual_gpu

from vramcast.allocator.replay import replay
from vramcast.timeline import Allocation
from vramcast.virtual_cuda import VirtualGPU


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.up, self.down = nn.Linear(32, 128), nn.Linear(128, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Model(nn.Module):
    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 32)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(32, 100, bias=False)
        self.register_buffer("scale", torch.ones(300))
        self.recompute = recompute

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return self.head(x) * self.scale[:100]


def train(recompute: bool = False) -> VirtualGPU:
    with virtual_gpu() as machine:
        model = Model(recompute).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        machine.mark("loaded")
        for _ in range(2):
            tokens = torch.zeros(4, 16, dtype=torch.long).cuda()
            loss = model(tokens).square().mean()
            machine.mark("forward")
            loss.backward()
            machine.mark("backward")
            optimizer.step()
            machine.mark("step")
            optimizer.zero_grad()
    return machine


@pytest.fixture(scope="module")
def machine() -> VirtualGPU:
    return train()


PARAMETERS = 100 * 32 * 2 + 2 * (2 * 32 + 32 * 128 * 2 + 128 + 32)


def live_by_category(machine: VirtualGPU, mark: str, occurrence: int = 0) -> dict[str, list[Allocation]]:
    position = [position for name, position in machine.timeline.mark_positions() if name == mark][occurrence]
    live: dict[str, list[Allocation]] = defaultdict(list)
    for index in machine.timeline.live_at(position):
        live[machine.timeline.allocations[index].category].append(machine.timeline.allocations[index])
    return live


def total(held: list[Allocation]) -> int:
    return sum(a.nbytes for a in held)


def test_parameters_and_buffers_are_there_after_loading(machine: VirtualGPU) -> None:
    live = live_by_category(machine, "loaded")
    assert total(live["parameters"]) == 4 * PARAMETERS
    assert total(live["buffers"]) == 1200
    assert set(live) == {"parameters", "buffers"}
    assert {a.phase for held in live.values() for a in held} == {"load"}


def test_after_forward_there_are_activations_and_inputs(machine: VirtualGPU) -> None:
    live = live_by_category(machine, "forward")
    assert set(live) == {"parameters", "buffers", "inputs", "activations", "workspace"}
    assert [(a.nbytes, a.op) for a in live["inputs"]] == [(4 * 16 * 8, "copy_from_host")]
    assert total(live["activations"]) > 2 * 4 * 64 * (128 + 32)


def test_after_backward_there_are_gradients_of_the_size_of_the_parameters(machine: VirtualGPU) -> None:
    live = live_by_category(machine, "backward")
    assert total(live["gradients"]) == 4 * PARAMETERS
    assert {a.phase for a in live["gradients"]} == {"backward"}
    assert total(live["activations"]) < 1000  # the loss


def test_after_the_step_there_are_optimizer_states(machine: VirtualGPU) -> None:
    live = live_by_category(machine, "step", 1)
    assert total(live["optimizer_states"]) == 2 * 4 * PARAMETERS
    assert {a.phase for a in live["optimizer_states"]} == {"optimizer"}
    assert "temporary" not in live


@pytest.mark.parametrize("recompute", [False, True])
def test_live_bytes_are_what_the_allocator_says_at_every_mark(recompute: bool) -> None:
    machine = train(recompute)
    for reading in replay(machine.timeline).marks:
        live = machine.timeline.live_at(reading.position)
        assert sum(-(-machine.timeline.allocations[i].nbytes // 512) * 512 for i in live) == reading.allocated_bytes
        assert reading.allocated_bytes > 0


def test_backward_names_the_module_whose_forward_it_undoes(machine: VirtualGPU) -> None:
    paths = {
        phase: {a.module for a in allocations(machine) if a.phase == phase and a.module}
        for phase in ("forward", "backward")
    }
    layers = {f"blocks.{i}.{name}" for i in range(2) for name in ("norm", "up", "down")} | {"embedding", "head"}
    assert layers <= paths["forward"]
    assert layers <= paths["backward"]
    assert paths["backward"] <= paths["forward"] | {""}
    between = {a.module for a in allocations(machine) if a.op in ("relu", "threshold_backward")}
    assert between == {"blocks.0", "blocks.1"}  # the block's own operator, made between two of its layers
    gradient = next(a for a in allocations(machine) if a.category == "gradients" and a.shape == (128, 32))
    assert gradient.module == "blocks.1.up"


def test_recomputation_is_a_phase_and_keeps_the_module_paths() -> None:
    machine = train(recompute=True)
    recomputed = [a for a in allocations(machine) if a.phase == "recompute"]
    assert {a.op for a in recomputed} >= {"addmm", "native_layer_norm", "relu"}
    assert {a.module.rpartition(".")[0] for a in recomputed if a.module.count(".") == 2} == {"blocks.0", "blocks.1"}
    assert {a.category for a in recomputed} >= {"activations"}
    once = Counter(a.op for a in allocations(train()) if a.phase == "forward")
    assert Counter(a.op for a in allocations(machine) if a.phase == "forward")["addmm"] == once["addmm"]


def test_a_part_called_before_its_whole_gets_its_full_path() -> None:
    with virtual_gpu() as machine:
        model = Model().cuda()
        model.head(torch.randn(2, 32, device="cuda"))
        model(torch.zeros(4, 16, dtype=torch.long).cuda())
        assert [a.module for a in allocations(machine) if a.op == "mm"] == ["", "head"]


def test_an_error_inside_a_module_leaves_the_stack_empty() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    with virtual_gpu() as machine:
        with pytest.raises(RuntimeError, match="broken"):
            nn.Sequential(nn.Identity(), Broken())(torch.zeros(1, device="cuda"))
        assert not machine.modules.inside
        assert machine.modules.current_path() == ""


def test_phases_can_be_named() -> None:
    with virtual_gpu() as machine:
        with machine.in_phase("prefill"):
            torch.zeros(4, device="cuda")
        assert machine.timeline.allocations[0].phase == "prefill"
        assert machine.phases.current == "load"
