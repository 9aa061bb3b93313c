"""What code saves it finds again: the same tensors without data, on the device it asks for, and nothing on disk."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from virtual_gpu_helpers import allocated, virtual_gpu

Spec = tuple[torch.dtype, tuple[int, ...], tuple[int, ...], bool, type]


def spec(tensor: torch.Tensor) -> Spec:
    return tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.requires_grad, type(tensor)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 16)
        self.norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 64, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("target", ["path", "text path", "file", "buffer"])
def test_a_module_comes_back_with_its_ties(tmp_path: Path, target: str) -> None:
    path = tmp_path / "model.pt"
    with virtual_gpu() as machine:
        model = Tied().to("cuda").half()
        where: Any = {"path": path, "text path": str(path), "buffer": io.BytesIO()}.get(target)
        if where is None:
            with path.open("wb") as file:
                torch.save(model, file)
            where = path.open("rb")
        else:
            torch.save(model, where)
        if target == "buffer":
            where.seek(0)
        before = allocated(machine)
        loaded = torch.load(where, weights_only=False)
        if target == "file":
            where.close()
        assert loaded.head.weight is loaded.embedding.weight
        assert [spec(p) for p in loaded.parameters()] == [spec(p) for p in model.parameters()]
        assert [b.device for b in loaded.buffers()] == [b.device for b in model.buffers()]
        assert allocated(machine) == 2 * before
    assert path.exists() == (target == "file")


def test_shared_storages_strides_and_known_values_are_kept(tmp_path: Path) -> None:
    with virtual_gpu() as machine:
        x = torch.randn(4, 6, device="cuda").t()
        step, mask = torch.tensor(7, device="cuda"), torch.tensor([True, False], device="cuda")
        torch.save(
            {"x": x, "row": x[2], "step": step, "mask": mask, "rows": torch.arange(3), "name": "a"}, tmp_path / "a"
        )
        before = allocated(machine)
        loaded = torch.load(tmp_path / "a")
        assert spec(loaded["x"]) == spec(x)
        assert loaded["row"].untyped_storage().data_ptr() == loaded["x"].untyped_storage().data_ptr()
        assert loaded["row"].data_ptr() - loaded["x"].data_ptr() == x[2].data_ptr() - x.data_ptr()
        assert (loaded["step"].item(), loaded["mask"].tolist(), loaded["rows"].tolist()) == (
            7,
            [True, False],
            [0, 1, 2],
        )
        assert not loaded["rows"].is_cuda and loaded["name"] == "a"
        assert allocated(machine) - before == 3 * 512
        assert machine.assumptions.sentences()[1:] == []


LOCATIONS: dict[str, tuple[Any, str, str]] = {
    "default": (None, "cuda", "cpu"),
    "cpu": ("cpu", "cpu", "cpu"),
    "cuda": ("cuda", "cuda", "cuda"),
    "device": (torch.device("cuda", 0), "cuda", "cuda"),
    "dictionary": ({"cuda:0": "cpu"}, "cpu", "cpu"),
    "keeps the storage": (lambda storage, location: storage, "cpu", "cpu"),
    "moves the storage": (lambda storage, location: storage.cuda(0), "cuda", "cuda"),
    "has no answer": (lambda storage, location: None, "cuda", "cpu"),
    "meta": ("meta", "meta", "meta"),
}


@pytest.mark.parametrize("map_location, virtual, real", LOCATIONS.values(), ids=LOCATIONS)
def test_map_location_is_honoured(tmp_path: Path, map_location: Any, virtual: str, real: str) -> None:
    with virtual_gpu() as machine:
        torch.save([torch.zeros(100, device="cuda"), torch.arange(3)], tmp_path / "a")
        before = allocated(machine)
        loaded = torch.load(tmp_path / "a", map_location=map_location)
        assert [tensor.device.type for tensor in loaded] == [virtual, real]
        assert allocated(machine) - before == 512 * [virtual, real].count("cuda")
        if real != "meta":
            assert loaded[1].tolist() == [0, 1, 2]


def test_weights_only_refuses_what_torch_refuses(tmp_path: Path) -> None:
    with virtual_gpu():
        torch.save(nn.Linear(2, 2).cuda(), tmp_path / "module")
        with pytest.raises(pickle.UnpicklingError, match=r"torch.nn.modules.linear.Linear"):
            torch.load(tmp_path / "module")
        torch.save(nn.Linear(2, 2).cuda().state_dict(), tmp_path / "weights")
        assert torch.load(tmp_path / "weights")["weight"].is_cuda


def test_a_real_file_is_read_onto_the_gpu(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    weight = torch.arange(12.0).reshape(3, 4)
    torch.save({"weight": weight, "row": weight[1], "large": torch.zeros(100_000), "step": 3}, path)
    with virtual_gpu() as machine:
        loaded = torch.load(path, map_location="cuda")
        assert loaded["weight"].is_cuda and loaded["weight"].tolist() == weight.tolist()
        assert loaded["row"].tolist() == [4, 5, 6, 7] and loaded["step"] == 3
        assert loaded["row"].untyped_storage().data_ptr() == loaded["weight"].untyped_storage().data_ptr()
        assert allocated(machine) == 512 + 400_384
        assert machine.value_of(loaded["large"]) is None
        on_cpu = torch.load(path)
        assert not machine.storages.of(on_cpu["weight"]) and on_cpu["weight"].equal(weight)


def test_cuda_tags_in_a_real_file_are_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # as if saved on a machine with a GPU
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save({"weight": torch.ones(4)}, tmp_path / "weights.pt")
    with virtual_gpu():
        assert torch.load(tmp_path / "weights.pt")["weight"].device == torch.device("cuda", 0)
        assert torch.load(tmp_path / "weights.pt", map_location="cpu")["weight"].tolist() == [1] * 4


def test_left_out_files_can_be_asked_for_moved_and_removed(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    with virtual_gpu():
        torch.save({"x": torch.zeros(256, device="cuda")}, first)
        assert first.exists() and first.is_file() and os.path.getsize(first) == 1024  # noqa: PTH202
        os.replace(first, second)  # noqa: PTH105
        assert not first.exists() and torch.load(second)["x"].is_cuda
        second.unlink()
        assert not second.exists()
        with pytest.raises(FileNotFoundError):
            torch.load(second)
        folder = tmp_path / "staging"
        folder.mkdir()
        torch.save([torch.zeros(1, device="cuda")], folder / "c.pt")
        folder.rename(tmp_path / "final")
        assert torch.load(tmp_path / "final" / "c.pt")[0].is_cuda
        (tmp_path / "final").rmdir()
        (tmp_path / "final").mkdir()
        assert not (tmp_path / "final" / "c.pt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_token_in_a_file_survives_copies(tmp_path: Path) -> None:
    """Code that saves to memory and writes the bytes itself, as Lightning does."""
    with virtual_gpu() as machine:
        buffer = io.BytesIO()
        torch.save({"x": torch.zeros(5, device="cuda")}, buffer)
        (tmp_path / "a.ckpt").write_bytes(buffer.getvalue())
        assert torch.load(tmp_path / "a.ckpt")["x"].shape == (5,)
        assert any("got a short token" in sentence for sentence in machine.assumptions.sentences())
    assert b"vramcast dry run: no checkpoint" in (tmp_path / "a.ckpt").read_bytes()


def test_copies_stay_on_their_device() -> None:
    with virtual_gpu() as machine:
        model = Tied().cuda()
        before = allocated(machine)
        for copied in (copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))):
            twin = copied(model)
            assert twin.head.weight is twin.embedding.weight and twin.norm.running_mean.is_cuda
            assert allocated(machine) == 2 * before
            del twin
        x = torch.arange(10, device="cuda")
        x.note = "kept"  # type: ignore[attr-defined]
        pair = copy.deepcopy({"x": x, "part": x[2:], "state": model.state_dict()})
        assert pair["part"].data_ptr() - pair["x"].data_ptr() == 16 and pair["x"].note == "kept"
        assert pair["part"].tolist() == list(range(2, 10))
        assert all(tensor.is_cuda for tensor in pair["state"].values())
        assert pickle.loads(pickle.dumps(x)).is_cuda


def test_storages_know_their_device() -> None:
    with virtual_gpu() as machine:
        storage = torch.zeros(16, device="cuda").untyped_storage()
        before = allocated(machine)
        copies = [storage.clone(), torch.UntypedStorage(64, device="cuda"), copy.copy(storage), storage.cpu().cuda()]
        assert [s.device for s in (storage, *copies)] == [torch.device("cuda", 0)] * 5
        assert allocated(machine) - before == 4 * 512
        assert storage.is_cuda and storage.cpu().device.type == "cpu" and storage.cuda() is storage
