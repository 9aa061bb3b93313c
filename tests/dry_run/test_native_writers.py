"""Files that C++ and Rust write are put back like those that Python writes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.numpy
import safetensors.torch
import tokenizers
import torch
from safetensors.torch import save_file  # by name, as scripts do
from tests.put_aside.world import World

from vramcast.dry_run.native_writers import guarded_writers
from vramcast.hardware import find_gpu
from vramcast.put_aside import FileGuard
from vramcast.virtual_cuda import VirtualGPU


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.chdir(world.files)
    return world


def scripted() -> torch.jit.ScriptModule:
    return torch.jit.script(torch.nn.Linear(2, 2))


def scripted_function() -> torch.jit.ScriptFunction:
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    return torch.jit.script(doubled)


def exported() -> torch.export.ExportedProgram:
    return torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))


def profile() -> None:
    with torch.profiler.profile() as profiler:
        torch.zeros(2).add(1)
    profiler.export_chrome_trace("model.pt")


def store_of_ranks() -> None:
    os.truncate("model.pt", 0)  # it would wait for ever for what it can read
    torch.distributed.FileStore("model.pt", 1).set("a", "b")


def package() -> None:
    with torch.package.PackageExporter("model.pt") as exporter:
        exporter.save_text("a", "b", "c")


def mapped(shared: bool) -> None:
    torch.from_file("model.pt", shared=shared, size=3, dtype=torch.uint8).fill_(7)


def tokenizer() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))


HARM: dict[str, Callable[[], object]] = {
    "torch.save": lambda: torch.save({"step": 5}, "model.pt"),
    "torch.save, to a path": lambda: torch.save([torch.ones(3)], Path("model.pt")),
    "torch.save, through a link": lambda: torch.save({"step": 5}, "best.pt"),
    "torch.save, to a file": lambda: torch.save({"step": 5}, Path("model.pt").open("wb")),
    "torch.save, as it was": lambda: torch.save({"step": 5}, "model.pt", _use_new_zipfile_serialization=False),
    "torch.save, then rotate": lambda: (Path("model.pt").replace("prev.pt"), torch.save({"step": 5}, "model.pt")),
    "torch.jit.save": lambda: torch.jit.save(scripted(), "model.pt"),
    "ScriptModule.save": lambda: scripted().save(Path("model.pt")),
    "ScriptFunction.save": lambda: scripted_function().save("model.pt"),
    "for mobile": lambda: scripted()._save_for_lite_interpreter("model.pt"),
    "a flat buffer": lambda: torch.jit.save_jit_module_to_flatbuffer(scripted(), "model.pt"),
    "torch.export.save": lambda: torch.export.save(exported(), "model.pt"),
    "torch.package": package,
    "a trace": profile,
    "a store of ranks": store_of_ranks,
    "a mapped file": lambda: mapped(True),
    "a mapped storage": lambda: torch.UntypedStorage.from_file("model.pt", True, 3).fill_(7),
    "safetensors": lambda: save_file({"a": torch.ones(2)}, "model.pt"),
    "safetensors of numpy": lambda: safetensors.numpy.save_file({"a": torch.ones(2).numpy()}, "model.pt"),
    "safetensors of a model": lambda: safetensors.torch.save_model(torch.nn.Linear(2, 2), "model.pt"),
    "a tokenizer": lambda: tokenizer().save("model.pt"),
    "a tokenizer's path by name": lambda: tokenizer().save(path="model.pt", pretty=False),
}


def do(how: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        HARM[how]()


@pytest.mark.parametrize("how", HARM)
def test_what_was_there_is_there_again(world: World, how: str) -> None:
    guard = FileGuard(world.store, folders=[world.files])
    with guarded_writers(guard), guard.watching():
        do(how)
        assert world.after() != world.before
    report = world.put_back()
    assert world.after() == world.before
    assert report.restored in (("model.pt",), ("best.pt",), ("prev.pt", "model.pt"))
    assert report.changed_unseen == ()


@pytest.mark.parametrize("how", ["torch.save", "torch.jit.save", "safetensors", "a tokenizer"])
def test_a_new_file_is_told_and_stays(world: World, how: str) -> None:
    Path("model.pt").unlink()
    guard = FileGuard(world.store)
    with guarded_writers(guard), guard.watching():
        do(how)
    assert world.put_back().sentences() == ["the script itself wrote 1 file, which is real: model.pt"]
    assert Path("model.pt").exists()


def test_what_is_only_read_is_not_copied(world: World) -> None:
    torch.save([torch.ones(3)], "model.pt")
    guard = FileGuard(world.store)
    with guarded_writers(guard), guard.watching():
        mapped(False)
        torch.load("model.pt", mmap=True)
    assert list((world.store / "originals").iterdir()) == []


def test_vocabularies_of_a_tokenizer(world: World) -> None:
    for name in ("vocab.json", "mine-vocab.json"):
        Path(name).write_text("precious")
    world.look()
    guard = FileGuard(world.store)
    with guarded_writers(guard), guard.watching():
        tokenizer().model.save(".")
        tokenizer().model.save(str(world.files), "mine")
        assert Path("vocab.json").read_text() != "precious"
    world.put_back()
    assert world.after() == world.before


def test_what_a_virtual_gpu_leaves_out_is_not_put_aside(world: World) -> None:
    guard = FileGuard(world.store)
    with guarded_writers(guard), guard.watching(), VirtualGPU(find_gpu("a100-80gb")):
        weight = torch.ones(300, 300, device="cuda")
        torch.save({"weight": weight}, "model.pt")
        save_file({"weight": weight}, "prev.pt")
        assert world.after() == world.before
        torch.save({"step": 5}, "ckpt/a.bin")
        save_file({"a": torch.ones(2)}, "ckpt/deep/b.bin")
    assert len(list((world.store / "originals").iterdir())) == 2
    world.put_back()
    assert world.after() == world.before


def test_the_rotation_of_weights(world: World) -> None:
    guard = FileGuard(world.store)
    with guarded_writers(guard), guard.watching(), VirtualGPU(find_gpu("a100-80gb")):
        model = torch.nn.Linear(300, 300).cuda()
        Path("model.pt").replace("prev.pt")
        torch.save(model.state_dict(), "model.pt")
        assert torch.load("model.pt")["weight"].shape == (300, 300)
        assert not world.after().get("model.pt")
    assert world.put_back().restored == ("prev.pt", "model.pt")
    assert world.after() == world.before


def test_all_doors_are_closed_again() -> None:
    doors = torch._C.PyTorchFileWriter.__init__, torch.from_file, safetensors.torch.serialize_file
    with guarded_writers(FileGuard(Path())):
        assert torch.from_file is not doors[1]
    assert (torch._C.PyTorchFileWriter.__init__, torch.from_file, safetensors.torch.serialize_file) == doors
    assert "from_file" not in vars(torch.UntypedStorage)
