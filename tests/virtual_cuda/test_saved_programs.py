"""TorchScript archives and exported programs: left out where their weights have no data, refused by name where they would be loaded."""

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import vramcast
from vramcast.errors import RecordingError


@pytest.fixture(autouse=True)
def torchscript_is_deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def scripted(module: nn.Module) -> nn.Module:
    return torch.jit.script(module)


def exported(module: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(module, (torch.zeros(1, module.in_features),))


Save = Callable[[nn.Module, Path], object]
SAVED: dict[str, Save] = {
    "torch.jit.save": lambda module, path: torch.jit.save(scripted(module.cuda()), path),
    "torch.jit.save of a path's name": lambda module, path: torch.jit.save(scripted(module.cuda()), str(path)),
    "ScriptModule.save": lambda module, path: scripted(module.cuda()).save(path),
    "of a module on the CPU": lambda module, path: torch.jit.save(scripted(module), path),
    "for mobile": lambda module, path: scripted(module.cuda())._save_for_lite_interpreter(str(path)),
    "torch.export.save": lambda module, path: torch.export.save(exported(module), path),
    "torch.export.save of a path's name": lambda module, path: torch.export.save(exported(module), str(path)),
}


@pytest.mark.parametrize("how", SAVED)
def test_a_program_without_weights_is_left_out(tmp_path: Path, how: str) -> None:
    there, new = tmp_path / "model.pt", tmp_path / "new.pt"
    there.write_bytes(b"the good one")
    with vramcast.virtual_gpu("a100-80gb") as gpu:
        for path in (there, new):
            SAVED[how](nn.Linear(8, 8), path)
            assert path.exists()
            load = torch.export.load if "export" in how else torch.jit.load
            with pytest.raises(RecordingError, match="use the module itself"):
                load(path)
            with pytest.raises(RecordingError, match=r"torch\.load of a program that was left out"):
                torch.load(path)
    assert there.read_bytes() == b"the good one"
    assert not new.exists()
    assert any("was left out" in line and "test_saved_programs.py" in line for line in gpu.assumptions.sentences())


def test_a_traced_module(tmp_path: Path) -> None:
    module = torch.jit.trace(nn.Linear(8, 8), torch.zeros(1, 8))
    with vramcast.virtual_gpu("a100-80gb"):
        module.cuda().save(str(tmp_path / "model.pt"))
        with pytest.raises(RecordingError, match="left out"):
            torch.jit.load(tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_buffer_gets_a_token() -> None:
    with vramcast.virtual_gpu("a100-80gb"):
        for save, load in (
            (lambda file: torch.jit.save(scripted(nn.Linear(64, 64).cuda()), file), torch.jit.load),
            (lambda file: torch.export.save(exported(nn.Linear(64, 64)), file), torch.export.load),
        ):
            buffer = io.BytesIO()
            save(buffer)
            assert buffer.getvalue().startswith(b"vramcast dry run")
            buffer.seek(0)
            with pytest.raises(RecordingError, match="left out"):
                load(buffer)


def test_real_programs_are_saved_and_loaded(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)  # made before there is a virtual GPU
    program = torch.export.export(module, (torch.zeros(1, 2),))
    with vramcast.virtual_gpu("a100-80gb") as gpu:
        torch.jit.save(scripted(module), tmp_path / "script.pt")
        torch.export.save(program, tmp_path / "export.pt2")
        assert torch.equal(torch.jit.load(tmp_path / "script.pt").weight, module.weight)
    assert torch.equal(torch.jit.load(tmp_path / "script.pt").weight, module.weight)
    assert torch.equal(torch.export.load(tmp_path / "export.pt2").state_dict["weight"], module.weight)
    assert gpu.assumptions.sentences() == []


def test_what_was_left_out_is_forgotten_when_a_real_one_is_saved(tmp_path: Path) -> None:
    path, module = tmp_path / "model.pt", nn.Linear(2, 2)
    with vramcast.virtual_gpu("a100-80gb"):
        torch.jit.save(scripted(nn.Linear(64, 64).cuda()), path)
        torch.jit.save(scripted(module), path)
        assert torch.jit.load(path).weight.shape == (2, 2)


def test_exporting_a_model_on_the_gpu_is_refused_by_name() -> None:
    with vramcast.virtual_gpu("a100-80gb"), pytest.raises(RecordingError, match=r"^torch\.export\.export of a model"):
        torch.export.export(nn.Linear(64, 64).cuda(), (torch.zeros(1, 64, device="cuda"),))


def test_all_is_put_back() -> None:
    before = torch.jit.load, torch.export.save, torch.export.export, torch.jit.ScriptModule.save
    with vramcast.virtual_gpu("a100-80gb"):
        assert torch.jit.load is not before[0]
    assert (torch.jit.load, torch.export.save, torch.export.export, torch.jit.ScriptModule.save) == before
