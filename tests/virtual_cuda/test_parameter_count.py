"""A sharded model has each parameter once, whatever FSDP keeps beside its shards."""

from __future__ import annotations

import pytest
import torch
from distributed_helpers import one_rank, small_model, train_step
from torch import nn
from torch._decomp import decomposition_table
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy


def sharded(kind: str, model: nn.Sequential) -> nn.Module:
    if kind == "fully_shard":
        for block in model:
            fully_shard(block)
        return fully_shard(model)
    policy = ModuleWrapPolicy({type(model[0])})
    return FullyShardedDataParallel(model, auto_wrap_policy=policy, use_orig_params=kind == "original")


@pytest.mark.parametrize("kind", ["fully_shard", "flat", "original"])
def test_each_parameter_counts_once_and_whole(kind: str) -> None:
    with one_rank(8) as machine:
        model = small_model().cuda()
        elements = sum(parameter.numel() for parameter in model.parameters())
        model = sharded(kind, model)
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            train_step(model, optimizer)
        assert machine.recording().parameters == elements


def test_a_model_sharded_on_meta_is_drawn_in_place() -> None:
    uniform = torch.ops.aten.uniform_.default
    decomposition = decomposition_table[uniform]
    with one_rank(8) as machine:
        with torch.device("meta"):
            model = nn.Linear(64, 64, bias=False)
        fully_shard(model)
        model.to_empty(device="cuda")
        before = machine.allocator.statistics.all.allocated_bytes
        model.reset_parameters()
        assert machine.allocator.statistics.all.allocated_bytes == before
    assert decomposition_table[uniform] is decomposition
