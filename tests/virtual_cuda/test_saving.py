"""A virtual run writes nothing that looks like a checkpoint, and leaves existing files alone."""

from pathlib import Path

import pytest
import torch
from torch import nn

import vramcast


@pytest.mark.parametrize("what", ["state dict", "module", "nested"])
def test_torch_save_of_virtual_tensors_writes_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"the good one")
    with vramcast.virtual_gpu("a100-80gb") as gpu:
        model = nn.Linear(64, 64).to("cuda")
        objects = {"state dict": model.state_dict(), "module": model, "nested": {"step": 3, "weights": [model.weight]}}
        torch.save(objects[what], path)
    assert path.read_bytes() == b"the good one"
    assert any("torch.save was left out" in line and "test_saving.py" in line for line in gpu.assumptions.sentences())


def test_real_tensors_are_saved(tmp_path: Path) -> None:
    with vramcast.virtual_gpu("a100-80gb") as gpu:
        torch.save({"rows": torch.arange(3)}, tmp_path / "rows.pt")
    assert torch.load(tmp_path / "rows.pt")["rows"].tolist() == [0, 1, 2]
    assert gpu.assumptions.sentences() == []
