"""FSDP and tensor parallelism of torch run as they are: one rank holds its padded shards, and gathers and reduces through buffers."""

from __future__ import annotations

import pytest
import torch
from distributed_helpers import (
    INNER,
    WIDTH,
    live_by_category,
    one_rank,
    padded_shards,
    rounded,
    small_model,
    train_step,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from virtual_gpu_helpers import allocated

BLOCK_ELEMENTS = 2 * WIDTH * INNER + WIDTH + INNER


def shard(model: nn.Sequential, **options: object) -> nn.Sequential:
    for block in model:
        fully_shard(block, **options)
    return fully_shard(model, **options)


def shapes(model: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in model.parameters()]


@pytest.mark.parametrize("world_size", [1, 8, 64])
@pytest.mark.parametrize("start", ["cpu", "cuda", "meta"])
def test_parameters_gradients_and_states_are_shards(world_size: int, start: str) -> None:
    with one_rank(world_size) as machine:
        with torch.device("meta" if start == "meta" else "cpu"):
            model = small_model()
        model = shard(model.cuda() if start == "cuda" else model)
        if start == "meta":
            model.to_empty(device="cuda")
        shards = sum(rounded(4 * elements) for elements in padded_shards(shapes(model), world_size))
        if world_size == 1:
            assert shards == 3 * 4 * BLOCK_ELEMENTS
        assert live_by_category(machine)["parameters"] == shards
        optimizer = torch.optim.AdamW(model.parameters())
        train_step(model, optimizer)
        live = live_by_category(machine)
        assert live["parameters"] == shards
        assert live["optimizer_states"] == 2 * shards
        # The gradients of a block lie one after another in one buffer.
        assert live["gradients"] == 3 * rounded(4 * sum(padded_shards(shapes(model[0]), world_size)))


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(1, 40), inner=st.integers(1, 40), world_size=st.integers(1, 9), data=st.data(),
)  # fmt: skip
def test_any_shape_is_padded_to_equal_rows(width: int, inner: int, world_size: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, world_size - 1))
    with one_rank(world_size, rank) as machine:
        model = fully_shard(small_model(1, width, inner).cuda())
        elements = padded_shards(shapes(model), world_size)
        assert live_by_category(machine)["parameters"] == sum(rounded(4 * number) for number in elements)
        train_step(model, width=width)
        assert live_by_category(machine)["gradients"] == rounded(4 * sum(elements))


def test_peaks_fall_with_the_world() -> None:
    peaks = []
    for world_size in (1, 8, 64):
        with one_rank(world_size) as machine:
            model = shard(small_model().cuda())
            torch.cuda.reset_peak_memory_stats()
            train_step(model, torch.optim.AdamW(model.parameters()))
            peaks.append((machine.peak_allocated_bytes, machine.peak_reserved_bytes))
    assert peaks[0] > peaks[1] > peaks[2]


def test_alone_in_its_world_a_rank_ends_as_the_plain_script() -> None:
    after = []
    for sharded in (False, True):
        with one_rank(1, initialize=sharded) as machine:
            model: nn.Module = small_model().cuda()
            model = shard(model) if sharded else model
            optimizer = torch.optim.AdamW(model.parameters())
            for _ in range(2):
                train_step(model, optimizer)
            after.append(
                {name: live_by_category(machine)[name] for name in ("parameters", "optimizer_states", "gradients")}
            )
            peak = machine.peak_allocated_bytes
            assert peak > sum(after[-1].values())
    assert after[0] == after[1]


def allocations_on_other_streams(world_size: int, policy: MixedPrecisionPolicy) -> list[int]:
    """Bytes of what one step takes on the streams of the collectives."""
    with one_rank(world_size) as machine:
        model = shard(small_model(2).cuda(), mp_policy=policy)
        before = len(machine.timeline.allocations)
        train_step(model)
        return [made.nbytes for made in machine.timeline.allocations[before:] if made.stream]


def test_buffers_of_one_step() -> None:
    """`_fsdp_collectives.py`: shards cast and gathered on the copy-in stream, reduced gradients on the reduce-scatter stream."""
    part = BLOCK_ELEMENTS // 8
    forward = [2 * part, 2 * 8 * part]
    backward_gathers = forward  # both blocks were resharded after forward
    reduced = [4 * part]
    sizes = allocations_on_other_streams(
        8, MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    )
    large = sorted(size for size in sizes if size > 512)
    assert large == sorted(2 * forward + 2 * backward_gathers + 2 * reduced)


def test_without_resharding_nothing_is_gathered_again() -> None:
    peaks = {}
    for reshard in (True, False):
        with one_rank(8) as machine:
            model = shard(small_model(6).cuda(), reshard_after_forward=reshard)
            model(torch.randn(2, 16, WIDTH, device="cuda"))
            peaks[reshard] = allocated(machine)
    assert peaks[False] - peaks[True] == 6 * 4 * BLOCK_ELEMENTS


def test_shards_on_the_host_take_no_gpu_memory() -> None:
    with one_rank(8) as machine:
        model = shard(small_model().cuda(), offload_policy=CPUOffloadPolicy())
        assert all(parameter.device.type == "cpu" for parameter in model.parameters())
        assert allocated(machine) == 0
        optimizer = torch.optim.AdamW(model.parameters())
        train_step(model, optimizer)
        assert not {"parameters", "gradients", "optimizer_states"} & set(live_by_category(machine))


def test_a_mesh_of_two_dimensions_shards_over_one() -> None:
    with one_rank(8) as machine:
        mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("replicate", "shard"))
        model = shard(small_model().cuda(), mesh=mesh)
        assert live_by_category(machine)["parameters"] == sum(
            rounded(4 * elements) for elements in padded_shards(shapes(model), 4)
        )
        train_step(model, torch.optim.AdamW(model.parameters()))


def test_tensor_parallel_layers_hold_their_slice() -> None:
    with one_rank(8) as machine:
        model = small_model().cuda()
        mesh = init_device_mesh("cuda", (8,))
        for block in model:
            parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
        one_block = 2 * WIDTH * INNER // 8 + INNER // 8 + WIDTH  # the last bias is whole on every rank
        small = {INNER // 8}  # less than a block of 512 bytes
        assert sum(small) * 4 < 512
        assert live_by_category(machine)["parameters"] == 3 * (4 * one_block - 4 * INNER // 8 + 512)
        optimizer = torch.optim.AdamW(model.parameters())
        train_step(model, optimizer)
        assert live_by_category(machine)["optimizer_states"] == 2 * live_by_category(machine)["parameters"]
        reduced = [made for made in machine.timeline.allocations if made.op == "all_reduce"]
        assert {made.nbytes for made in reduced} == {4 * 2 * 16 * WIDTH}
        assert not [made for made in machine.timeline.allocations if made.op == "wait_tensor"]


def test_tensor_parallel_alone_is_the_plain_script() -> None:
    peaks = []
    for parallel in (False, True):
        with one_rank(1, initialize=parallel) as machine:
            model = small_model().cuda()
            if parallel:
                for block in model:
                    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
                    parallelize_module(block, init_device_mesh("cuda", (1,)), plan)
            torch.cuda.reset_peak_memory_stats()
            optimizer = torch.optim.AdamW(model.parameters())
            for _ in range(2):
                train_step(model, optimizer)
            peaks.append((machine.peak_allocated_bytes, allocated(machine)))
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("use_orig_params", [False, True])
def test_the_older_class_shards_flat_parameters(use_orig_params: bool) -> None:
    with one_rank(8) as machine:
        policy = ModuleWrapPolicy({type(small_model(1)[0])})
        model = FullyShardedDataParallel(
            small_model(),
            auto_wrap_policy=policy,
            device_id=torch.cuda.current_device(),
            use_orig_params=use_orig_params,
        )
        flat = rounded(4 * BLOCK_ELEMENTS // 8)
        assert allocated(machine) == 3 * flat
        optimizer = torch.optim.AdamW(model.parameters())
        train_step(model, optimizer)
        model.clip_grad_norm_(1.0)
        states = sum(rounded(4 * parameter.numel()) for parameter in model.parameters() if parameter.numel())
        assert live_by_category(machine)["optimizer_states"] == 2 * states
        assert sum(parameter.numel() for parameter in model.parameters()) == 3 * BLOCK_ELEMENTS // 8


def test_gradients_of_a_sharded_model_are_clipped() -> None:
    with one_rank(8) as machine:
        model = shard(small_model().cuda())
        train_step(model)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).full_tensor()
        assert norm.item() == 1.0
        assert any("an unknown float32 value was read as 1.0" in line for line in machine.assumptions.sentences())
