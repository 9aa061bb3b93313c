"""Autocast: what is cast when, how long cast weights live, and what recomputation casts again."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import custom_bwd, custom_fwd
from torch.utils.checkpoint import checkpoint
from virtual_gpu_helpers import allocated, allocations, event_names, operators, virtual_gpu

BF16 = torch.bfloat16
WEIGHT = 64 * 64


def casts(machine: object, since: int = 0, *, elements: int = WEIGHT) -> int:
    """Half-precision copies of a [64, 64] weight."""
    made = allocations(machine, since)  # type: ignore[arg-type]
    return sum(a.op == "_to_copy" and a.dtype == "bfloat16" and a.shape == (64, 64) for a in made)


def test_a_weight_is_cast_once_in_a_region_and_freed_at_its_end() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(64, 64, bias=False).cuda()
        x = torch.randn(8, 64, device="cuda")
        since, start = len(machine.timeline.allocations), len(machine.timeline.events)
        with torch.no_grad(), torch.autocast("cuda", BF16):
            layer(layer(x).float())
            machine.mark("inside")
        machine.mark("after")
        assert casts(machine, since) == 1
        tail = event_names(machine, start)
        assert tail[tail.index("mark inside") :] == ["mark inside", "free _to_copy", "mark after"]
        since = len(machine.timeline.allocations)
        with torch.no_grad(), torch.autocast("cuda", BF16):
            layer(x)
        assert casts(machine, since) == 1


def test_with_gradients_the_cast_lives_until_backward_has_used_it() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(64, 64, bias=False).cuda()
        x = torch.randn(8, 64, device="cuda", requires_grad=True)
        with torch.autocast("cuda", BF16):
            loss = layer(x).sum()
        cast = next(
            i for i, a in enumerate(machine.timeline.allocations) if a.shape == (64, 64) and a.dtype == "bfloat16"
        )
        assert cast in machine.timeline.live_at(len(machine.timeline.events))
        assert machine.timeline.allocations[cast].category == "temporary"
        loss.backward()
        assert machine.timeline.allocations[cast].category == "activations"
        assert cast not in machine.timeline.live_at(len(machine.timeline.events))
        assert layer.weight.grad is not None and layer.weight.grad.dtype is torch.float32


@pytest.mark.parametrize("cached", [True, False])
def test_nested_regions_share_the_cache_of_the_outermost(cached: bool) -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(64, 64, bias=False).cuda()
        x = torch.randn(8, 64, device="cuda")
        with torch.autocast("cuda", BF16, cache_enabled=cached):
            layer(x)
            with torch.autocast("cuda", BF16, cache_enabled=cached):
                layer(x)
            with torch.autocast("cuda", enabled=False):
                assert layer(x).dtype is torch.float32
            assert layer(x).dtype is BF16
        assert casts(machine) == (1 if cached else 3)


def test_only_fp32_leaves_that_require_grad_are_cached() -> None:
    with virtual_gpu() as machine:
        frozen = torch.randn(64, 64, device="cuda")
        view = torch.randn(128, 64, device="cuda")[:64].requires_grad_()
        inner = torch.randn(64, 64, device="cuda", requires_grad=True) * 1
        x = torch.randn(8, 64, device="cuda")
        for weight in (frozen, view, inner):
            since = len(machine.timeline.allocations)
            with torch.autocast("cuda", BF16):
                x @ weight
                x @ weight
            assert casts(machine, since) == 2


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_casts_again_in_recomputation(reentrant: bool) -> None:
    with virtual_gpu() as machine:
        layer = nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU()).cuda()
        x = torch.randn(8, 64, device="cuda", requires_grad=True)
        with torch.autocast("cuda", BF16):
            y = checkpoint(layer, x, use_reentrant=reentrant)
        assert casts(machine) == 1
        assert y.dtype is BF16
        y.float().sum().backward()
        assert casts(machine) == 2
        phases = {
            a.phase
            for a in allocations(machine)
            if a.op == "_to_copy" and a.shape == (64, 64) and a.dtype == "bfloat16"
        }
        assert phases == {"forward", "recompute"}
        assert x.grad is not None and x.grad.device.type == "cuda"


def test_custom_forward_and_backward() -> None:
    seen = []

    class Scale(torch.autograd.Function):
        @staticmethod
        @custom_fwd(device_type="cuda", cast_inputs=torch.float32)
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            seen.append((x.dtype, torch.is_autocast_enabled("cuda")))
            return x * 2

        @staticmethod
        @custom_bwd(device_type="cuda")
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
            seen.append((grad.dtype, grad.device.type))
            return grad * 2

    with virtual_gpu():
        x = torch.randn(8, 64, device="cuda", requires_grad=True)
        with torch.autocast("cuda", BF16):
            y = Scale.apply(x.bfloat16())
            y.sum().backward()
    assert seen == [(torch.float32, False), (torch.float32, "cuda")]


def test_losses_norms_and_sums_leave_in_fp32() -> None:
    with virtual_gpu(), torch.autocast("cuda", BF16):
        x = torch.randn(8, 64, device="cuda", dtype=BF16)
        assert nn.functional.layer_norm(x, (64,)).dtype is torch.float32
        assert nn.functional.cross_entropy(x, torch.zeros(8, dtype=torch.long, device="cuda")).dtype is torch.float32
        assert x.sum().dtype is x.softmax(-1).dtype is torch.float32
        assert x.sum(dtype=BF16).dtype is BF16
        assert (x + x).dtype is BF16
        assert torch.einsum("ab,cb->ac", x.float(), x.float()).dtype is BF16
        assert torch.addcmul(x, x, x.float()).dtype is torch.float32
        assert x.norm().dtype is x.norm(dim=1).dtype is torch.float32
        assert torch.mm(x.double(), x.double().t()).dtype is torch.float64


def test_fp16_softmax_makes_no_fp32_copy_of_its_input() -> None:
    with virtual_gpu() as machine, torch.autocast("cuda", torch.float16):
        x = torch.randn(8, 64, device="cuda", dtype=torch.float16)
        since = len(machine.timeline.allocations)
        assert x.softmax(-1).dtype is torch.float32
        assert operators(machine, since) == ["_softmax"]


def test_cpu_autocast_and_cpu_tensors_are_left_alone() -> None:
    with virtual_gpu() as machine:
        a, b = torch.ones(2, 2), torch.ones(2, 2)
        with torch.autocast("cuda", BF16):
            assert (a @ b).dtype is torch.float32
        with torch.autocast("cpu", BF16):
            assert (a @ b).dtype is BF16
            assert (a.cuda() @ b.cuda()).dtype is torch.float32
        assert allocated(machine) > 0


@pytest.mark.parametrize(
    ("torch_version", "mode", "casts"),
    [("2.13.0", torch.no_grad, 1), ("2.13.0", torch.inference_mode, 3), ("2.9.1", torch.inference_mode, 1)],
)
def test_no_cast_weight_is_kept_in_inference(torch_version: str, mode: Any, casts: int) -> None:
    """Three passes through one layer: since 2.10 (pytorch PR 165068) each casts the weight anew under inference_mode."""
    with virtual_gpu(torch_version=torch_version) as machine:
        layer = torch.nn.Linear(256, 128, bias=False).cuda()
        before = len(machine.timeline.allocations)
        with mode(), torch.autocast("cuda", torch.bfloat16):
            for _ in range(3):
                layer(torch.zeros(1, 256, dtype=torch.bfloat16, device="cuda"))
        made = machine.timeline.allocations[before:]
        assert sum(allocation.shape == (128, 256) for allocation in made) == casts
