"""DDP's own reducer runs: its buckets are a second copy of the gradients, unless the gradients are views of them."""

from __future__ import annotations

import warnings

import pytest
import torch
from distributed_helpers import live_by_category, one_rank, rounded, small_model, train_step
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.distributed import _MixedPrecision
from virtual_gpu_helpers import MIB, allocated, virtual_gpu

from vramcast.virtual_cuda import VirtualGPU

with warnings.catch_warnings():  # this package of torch scripts its optimizers on import, which torch itself warns of
    warnings.simplefilter("ignore")
    from torch.distributed.optim import ZeroRedundancyOptimizer


def parameter_bytes(model: nn.Module) -> int:
    return sum(rounded(4 * parameter.numel()) for parameter in model.parameters())


def peaks_of_training(world_size: int | None, steps: int = 3, **settings: object) -> tuple[int, int, int]:
    """Bytes of the parameters, peak allocated and allocated afterwards; `world_size` None is the plain script."""
    with one_rank(world_size or 1, initialize=world_size is not None) as machine:
        model: nn.Module = small_model(width=256, inner=1024).cuda()
        size = parameter_bytes(model)
        if world_size is not None:
            model = DistributedDataParallel(model, device_ids=[0], **settings)  # type: ignore[arg-type]
        torch.cuda.reset_peak_memory_stats()  # construction sends the parameters through a buffer of up to 250 MiB
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(steps):
            train_step(model, optimizer, width=256)
            optimizer.zero_grad()
        return size, machine.peak_allocated_bytes, allocated(machine)


@pytest.mark.parametrize("world_size", [1, 8])
def test_buckets_are_a_second_copy_of_the_gradients(world_size: int) -> None:
    size, plain_peak, plain_after = peaks_of_training(None)
    _, peak, after = peaks_of_training(world_size)
    assert (peak - plain_peak, after - plain_after) == (size, size)


def test_gradients_that_are_views_of_the_buckets_cost_nothing_more() -> None:
    size, plain_peak, plain_after = peaks_of_training(None)
    _, peak, after = peaks_of_training(8, gradient_as_bucket_view=True)
    assert (peak - plain_peak, after - plain_after) == (0, size)


@pytest.mark.parametrize("setting", ["static_graph", "find_unused_parameters"])
def test_looking_for_unused_parameters_takes_a_map_of_them(setting: str) -> None:
    _, peak, after = peaks_of_training(8)
    _, other_peak, other_after = peaks_of_training(8, **{setting: True})
    assert (other_peak - peak, other_after - after) == (512, 512)  # one int32 for each of 12 parameters


def bucket_sizes(machine: VirtualGPU, since: int) -> list[int]:
    live = (machine.timeline.allocations[index] for index in machine.timeline.live_at(10**9) if index >= since)
    return [allocation.nbytes // MIB for allocation in live if allocation.op == "empty"]


def test_one_bucket_becomes_many_in_the_second_step() -> None:
    with one_rank(8) as machine:
        layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(15))).cuda()  # 4 MiB each
        before = len(machine.timeline.allocations)
        model = DistributedDataParallel(layers)
        assert bucket_sizes(machine, before) == [60]
        for _ in range(2):
            before = len(machine.timeline.allocations)
            train_step(model, width=1024)
        # The first closes beyond 1 MiB and the others beyond 25, in the order in which the gradients came.
        assert bucket_sizes(machine, before) == [4, 28, 28]
        assert live_by_category(machine)["gradients"] == 2 * 60 * MIB


def test_without_synchronisation_gradients_are_summed_as_ever() -> None:
    with one_rank(8) as machine:
        model = DistributedDataParallel(small_model().cuda(), device_ids=[0])
        with model.no_sync():
            train_step(model)
        gradients = [parameter.grad for parameter in model.parameters()]
        before = allocated(machine)
        train_step(model)
        assert all(parameter.grad is old for parameter, old in zip(model.parameters(), gradients, strict=True))
        assert allocated(machine) == before
        assert live_by_category(machine)["gradients"] == 2 * parameter_bytes(model)


def test_mixed_precision_keeps_half_sized_parameters_and_buckets() -> None:
    precision = _MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)
    with one_rank(8) as machine:
        model = DistributedDataParallel(small_model().cuda(), device_ids=[0], mixed_precision=precision)
        train_step(model)
        dtypes = {allocation.dtype for allocation in machine.timeline.allocations if allocation.op == "mm"}
        assert dtypes == {"bfloat16"}
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_a_hook_that_compresses_runs() -> None:
    with one_rank(8) as machine:
        model = DistributedDataParallel(small_model().cuda(), device_ids=[0])
        model.register_comm_hook(None, default_hooks.bf16_compress_hook)
        before = len(machine.timeline.allocations)
        train_step(model)
        compressed = [a for a in machine.timeline.allocations[before:] if a.dtype == "bfloat16"]
        assert sum(a.nbytes for a in compressed) == 2 * sum(p.numel() for p in model.parameters())


def greedy_partition(numbers: list[int], world_size: int) -> list[int]:
    """Elements each rank gets: the largest first, each to the rank with the least."""
    totals = [0] * world_size
    for number in sorted(numbers, reverse=True):
        totals[totals.index(min(totals))] += number
    return totals


@pytest.mark.parametrize("rank", [0, 3])
def test_stage_one_holds_the_states_of_its_own_parameters(rank: int) -> None:
    with one_rank(4, rank) as machine:
        model = DistributedDataParallel(small_model(blocks=5).cuda())
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=torch.optim.AdamW, lr=1e-3)
        train_step(model, optimizer)
        own = greedy_partition([parameter.numel() for parameter in model.parameters()], 4)[rank]
        assert live_by_category(machine)["optimizer_states"] == 2 * 4 * own


def test_stage_one_alone_in_its_world_holds_everything() -> None:
    with one_rank(1) as machine:
        model = DistributedDataParallel(small_model().cuda())
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=torch.optim.AdamW, lr=1e-3)
        train_step(model, optimizer)
        assert live_by_category(machine)["optimizer_states"] == 2 * parameter_bytes(model)


def test_the_loss_follows_the_rule_for_unknown_values() -> None:
    with one_rank(8) as machine:
        model = DistributedDataParallel(small_model().cuda())
        loss = model(torch.randn(2, 16, 128, device="cuda")).mean()
        loss.backward()
        torch.distributed.all_reduce(loss.detach(), op=torch.distributed.ReduceOp.AVG)
        assert loss.item() == 1.0
        assert any("an unknown float32 value was read as 1.0" in line for line in machine.assumptions.sentences())
        assert not any("real CPU tensor" in line for line in machine.assumptions.sentences())


def test_a_plain_script_is_as_before() -> None:
    with virtual_gpu() as machine:
        train_step(small_model().cuda())
        assert not any("processes" in line for line in machine.assumptions.sentences())
