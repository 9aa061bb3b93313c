"""How long tensors live: checkpointing, hooks, custom functions, retained graphs, accumulation."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from virtual_gpu_helpers import allocated, allocations, live_bytes, operators, virtual_gpu


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.qkv = nn.Linear(64, 192)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4)
        x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1).transpose(1, 2).flatten(2)
        return x + F.dropout(self.down(F.gelu(self.up(x))), 0.1)


def run(wrap: Callable[[nn.Module, torch.Tensor], torch.Tensor], *, blocks: int = 4) -> tuple[int, int, list[str]]:
    """(bytes held after forward, bytes at the end, operators) of a small transformer."""
    with virtual_gpu() as machine:
        model = nn.ModuleList(Block() for _ in range(blocks)).cuda()
        x = torch.randn(4, 128, 64, device="cuda", requires_grad=True)
        before = allocated(machine)
        with torch.autocast("cuda", torch.bfloat16):
            y = x
            for block in model:
                y = wrap(block, y)
        held = allocated(machine) - before - machine.library.workspace.workspace_bytes
        y.sum().backward()
        del y, x
        assert all(p.grad is not None and p.grad.device.type == "cuda" for p in model.parameters())
        assert allocated(machine) == live_bytes(machine)
        return held, allocated(machine), operators(machine)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_saves_memory_and_runs_the_same_kernels_again(reentrant: bool) -> None:
    plain, end, once = run(lambda block, x: block(x))
    held, end_again, twice = run(lambda block, x: checkpoint(block, x, use_reentrant=reentrant))
    assert held < plain / 4
    assert end == end_again
    for kernel in ("_scaled_dot_product_flash_attention", "native_dropout", "native_layer_norm"):
        assert twice.count(kernel) == 2 * once.count(kernel) > 0
    for kernel in ("_scaled_dot_product_flash_attention_backward", "native_dropout_backward"):
        assert twice.count(kernel) == once.count(kernel) > 0


def test_save_on_cpu_keeps_nothing_on_the_gpu() -> None:
    def offloaded(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with save_on_cpu(pin_memory=True):
            return block(x)

    plain, end, _ = run(lambda block, x: block(x))
    held, end_again, kernels = run(offloaded)
    assert held < plain / 4
    assert end == end_again
    assert "copy_from_host" in kernels


def test_saved_tensor_hooks_and_gradient_hooks_see_cuda() -> None:
    seen: list[str] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(tensor.device.type)
        return tensor

    with virtual_gpu():
        layer = nn.Linear(8, 8).cuda()
        layer.weight.register_hook(note)
        layer.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.device.type))
        with saved_tensors_hooks(note, note):
            loss = layer(torch.randn(2, 8, device="cuda")).exp().sum()
        loss.backward()
    assert len(seen) >= 6
    assert set(seen) == {"cuda"}


def test_a_custom_function_gets_zeros_for_a_gradient_that_never_comes() -> None:
    seen = []

    class Two(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, one, two):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            seen.extend([x.device.type, one.device.type, two.device.type])
            return one + two

    with virtual_gpu() as machine:
        x = torch.randn(1000, device="cuda", requires_grad=True)
        one, _ = Two.apply(x)
        since = len(machine.timeline.allocations)
        one.sum().backward()
        assert ("zeros", 4000) in [(a.op, a.nbytes) for a in allocations(machine, since)]
    assert seen == ["cuda", "cuda", "cuda"]


def test_a_retained_graph_keeps_its_tensors() -> None:
    with virtual_gpu() as machine:
        x = torch.randn(1 << 18, device="cuda", requires_grad=True)
        y = x.exp()
        loss = y.sum()
        del y
        loss.backward(retain_graph=True)
        held = allocated(machine)
        loss.backward()
        assert held - allocated(machine) == 1 << 20


def test_accumulation_keeps_one_gradient_and_adds_into_it() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(256, 256, bias=False).cuda()
        for index in range(3):
            layer(torch.randn(4, 256, device="cuda")).sum().backward()
            if index == 0:
                after_first = allocated(machine)
                address = layer.weight.grad.data_ptr()
        assert allocated(machine) == after_first
        assert layer.weight.grad.data_ptr() == address
        gradients = [a for a in machine.timeline.allocations if a.category == "gradients"]
        assert [a.nbytes for a in gradients] == [256 * 256 * 4]  # stolen from the matmul, not copied


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none: bool) -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(256, 256, bias=False).cuda()
        optimizer = torch.optim.SGD(layer.parameters())
        layer(torch.randn(4, 256, device="cuda")).sum().backward()
        before = allocated(machine)
        optimizer.zero_grad(set_to_none=set_to_none)
        assert before - allocated(machine) == (256 * 256 * 4 if set_to_none else 0)


def test_after_everything_died_only_workspaces_remain() -> None:
    with virtual_gpu() as machine:
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            model(torch.randn(8, 64, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        del model, optimizer
        live = machine.timeline.live_at(len(machine.timeline.events))
        assert {machine.timeline.allocations[index].category for index in live} == {"workspace"}
        assert allocated(machine) == 2 * machine.library.workspace.workspace_bytes
