"""Ordinary data loading feeds a virtual GPU: worker processes, the pinning thread, non-blocking copies."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import vramcast


@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_reach_the_gpu(workers: int) -> None:
    rows = TensorDataset(torch.arange(64).reshape(16, 4))
    with vramcast.virtual_gpu("rtx-3090") as gpu:
        totals = []
        for (batch,) in DataLoader(rows, batch_size=8, pin_memory=True, num_workers=workers):
            moved = batch.to("cuda", non_blocking=True)
            assert moved.is_cuda
            totals.append(int(moved.sum()))
    assert totals == [sum(range(32)), sum(range(32, 64))]
    assert [a.category for a in gpu.timeline.allocations if a.op == "copy_from_host"] == ["inputs", "inputs"]
