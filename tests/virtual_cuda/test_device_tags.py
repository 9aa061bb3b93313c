"""Tensors say where they would live; true meta, virtual host, virtual CUDA and real CPU stay apart."""

import copy
import itertools

import pytest
import torch
from virtual_gpu_helpers import allocated, allocations, virtual_gpu

CUDA = torch.device("cuda", 0)


def test_views_and_in_place_results_inherit_the_device() -> None:
    with virtual_gpu() as machine:
        x = torch.zeros(4, 6, device="cuda")
        before = allocated(machine)
        family = [x.view(24), x.detach(), x.data, x.t(), x[0], x.add_(1), x.unsqueeze(0), x.expand(2, 4, 6)]
        assert {y.device for y in family} == {CUDA}
        assert all(y.is_cuda and not y.is_cpu and not y.is_meta for y in family)
        assert allocated(machine) == before


def test_real_cpu_tensors_stay_real() -> None:
    with virtual_gpu() as machine:
        x = torch.arange(5.0)
        y = (x * 2).sum() + torch.nn.functional.dropout(torch.ones(1), 0.5, training=False)
        assert y.item() == 21.0
        assert (x.device.type, x.is_cuda, x.get_device()) == ("cpu", False, -1)
        assert torch.ones(3).to("cpu").tolist() == [1.0, 1.0, 1.0]
        assert allocations(machine) == []


def test_a_move_to_where_it_is_returns_the_same_tensor() -> None:
    with virtual_gpu():
        x = torch.randn(3, device="cuda")
        assert all(y is x for y in (x.cuda(), x.to("cuda"), x.to("cuda:0"), x.to(torch.float32), x.to(x)))
        assert x.to("cuda", copy=True) is not x
        assert x.half().dtype is torch.float16
        assert x.to("cuda", torch.bfloat16).dtype is torch.bfloat16


def test_host_copies_take_no_gpu_memory() -> None:
    with virtual_gpu() as machine:
        x = torch.randn(1000, device="cuda")
        before = allocated(machine)
        host = x.cpu()
        assert (host.device.type, host.is_cpu, host.is_cuda) == ("cpu", True, False)
        assert host.cpu() is host
        assert allocated(machine) == before
        assert host.cuda().device == CUDA
        del host
        assert allocated(machine) == before


def test_device_contexts_and_default_device() -> None:
    with virtual_gpu():
        with torch.device("cuda"):
            layer, x = torch.nn.Linear(2, 2), torch.arange(3)
        assert layer.weight.device == x.device == CUDA
        torch.set_default_device("cuda")
        assert torch.get_default_device() == CUDA
        assert torch.zeros(2).device == torch.tensor([1]).device == CUDA
        torch.set_default_device("cpu")
        assert torch.zeros(2).device.type == "cpu"
        assert torch.tensor([1.0, 2.0], device="cuda").new_zeros(3).device == CUDA
        assert torch.empty_like(torch.zeros(2), device="cuda").device == CUDA


def test_true_meta_is_neither_host_nor_cuda() -> None:
    with virtual_gpu() as machine:
        with torch.device("meta"):
            layer = torch.nn.Linear(64, 64)
        assert layer.weight.is_meta and not layer.weight.is_cuda
        assert allocations(machine) == []
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            layer.to("cuda")
        with pytest.raises(RuntimeError, match="item"):
            torch.zeros((), device="meta").item()
        weight = layer.weight
        layer.to_empty(device="cuda")
        assert layer.weight is not weight  # nothing to exchange data with
        assert layer.weight.device == CUDA
        assert [a.nbytes for a in allocations(machine)] == [64 * 64 * 4, 64 * 4]


def test_operators_on_true_meta_count_nothing() -> None:
    with virtual_gpu() as machine:
        x = torch.ones(8, device="meta", requires_grad=True)
        (torch.cat([x, torch.zeros(8, device="meta")])[:4] * 2).sum().backward()
        assert x.grad is not None and x.grad.is_meta
        assert [a.op for a in allocations(machine)] == []


@pytest.mark.parametrize("operator", [torch.add, torch.maximum, torch.mm, torch.lt])
def test_mixed_devices_raise_torchs_error(operator: object) -> None:
    with virtual_gpu(), pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        operator(torch.ones(2, 2, device="cuda"), torch.ones(2, 2))  # type: ignore[operator]


def test_zero_dimensional_cpu_tensors_may_meet_cuda_ones() -> None:
    with virtual_gpu():
        x = torch.ones(2, device="cuda") * torch.tensor(3.0)
        assert x.device == CUDA
        assert x.tolist() == [3.0, 3.0]
        assert torch.where(x > 1, x, torch.tensor(0.0)).device == CUDA


def test_deepcopy_is_a_second_allocation_on_the_same_device() -> None:
    with virtual_gpu() as machine:
        layer = torch.nn.Linear(512, 512, bias=False).cuda()
        before = allocated(machine)
        twin = copy.deepcopy(layer)
        assert twin.weight.device == CUDA
        assert twin.weight is not layer.weight
        assert allocated(machine) == 2 * before


def test_types_by_name() -> None:
    with virtual_gpu():
        x = torch.zeros(2, device="cuda")
        assert x.type() == "torch.cuda.FloatTensor"
        assert x.type(torch.cuda.HalfTensor).dtype is torch.float16
        assert torch.ones(2).type("torch.cuda.ByteTensor").dtype is torch.uint8


def test_addresses_of_live_tensors_do_not_overlap() -> None:
    with virtual_gpu():
        tensors = [torch.nn.Parameter(torch.empty(5000)) for _ in range(4)]
        tensors += [torch.empty(5000, device="cuda") for _ in range(4)]
        spans = sorted((x.data_ptr(), x.data_ptr() + x.numel() * 4) for x in tensors)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert tensors[4][100:].data_ptr() == tensors[4].data_ptr() + 400


def test_storage_growth_is_counted() -> None:
    with virtual_gpu() as machine:
        grown = torch.empty(0, device="cuda")
        a = torch.randn(1 << 20, device="cuda")
        before = allocated(machine)
        torch.add(a, a, out=grown)
        assert allocated(machine) - before == 4 << 20
        grown.resize_(1 << 21)
        assert allocated(machine) - before == 8 << 20
        grown.untyped_storage().resize_(0)
        assert allocated(machine) == before
        grown.untyped_storage().resize_(8 << 20)
        assert allocated(machine) - before == 8 << 20
        del grown
        assert allocated(machine) == before


def test_zeros_that_the_engine_makes_for_missing_gradients_are_counted() -> None:
    with virtual_gpu() as machine:
        x = torch.randn(10, 3000, device="cuda", requires_grad=True)
        used, *_ = x.chunk(3, -1)
        since = len(machine.timeline.allocations)
        used.sum().backward()
        made = [(a.op, a.nbytes) for a in allocations(machine, since)]
        assert made.count(("zeros", 40_000)) == 2
        assert ("cat", 120_000) in made


def test_a_real_leaf_moved_to_the_gpu_is_reported() -> None:
    with virtual_gpu() as machine:
        torch.ones(3, requires_grad=True).cuda()
        assert any(
            "real CPU leaf" in sentence and "test_device_tags.py" in sentence
            for sentence in machine.assumptions.sentences()
        )
        with pytest.raises(NotImplementedError, match="part of an autograd graph"):
            (torch.ones(3, requires_grad=True) * 2).cuda()


def test_a_device_that_does_not_exist_is_refused() -> None:
    with virtual_gpu(device_count=2):
        assert torch.zeros(1, device="cuda:1").device.index == 1
        with pytest.raises(RuntimeError, match=r"invalid device ordinal \(cuda:2"):
            torch.zeros(1, device="cuda:2")
