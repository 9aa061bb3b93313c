"""`vramcast run` where something goes wrong: what it says, what it leaves, and with which code it ends."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

import vramcast
from vramcast.cli.main import main

GOOD = "import torch\nkept = torch.empty(2**20, device='cuda')\n"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    path = tmp_path / "train.py"
    path.write_text(GOOD)
    return path


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["run", *words])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(("flag", "value"), [("--capacity", "400MiB"), ("--capacity", "10")])
def test_a_gpu_smaller_than_its_context(script: Path, capfd: pytest.CaptureFixture[str], flag: str, value: str) -> None:
    assert code_of(flag, value, str(script)) == 2
    error = capfd.readouterr().err
    assert f"--capacity='{value}'" in error
    assert "CUDA context" in error


def test_the_snapshot_names_the_scripts_own_line(script: Path, tmp_path: Path) -> None:
    target = tmp_path / "memory.pickle"
    assert code_of("--snapshot", str(target), str(script)) == 0
    (entry,) = [entry for entry in pickle.loads(target.read_bytes())["device_traces"][0] if entry["action"] == "alloc"]
    frames = [frame for frame in entry["frames"] if Path(frame["filename"]).name == "train.py"]
    assert [frame["line"] for frame in frames] == [2]


def test_a_snapshot_that_is_a_folder_is_refused_before_the_run(
    script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script.write_text("print('ran')\n")
    assert code_of("--snapshot", str(tmp_path), str(script)) == 2
    said = capfd.readouterr()
    assert "ran" not in said.out
    assert f"snapshot='{tmp_path}': this is a folder" in said.err


def test_a_name_that_is_too_long(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("--snapshot", "x" * 300, str(script)) == 2
    assert "cannot be written: File name too long" in capfd.readouterr().err


def test_a_full_disk_costs_the_file_and_not_the_answer(
    script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / ("x" * 250)  # a file may be called so, but not what is written beside it first
    assert code_of("--json", "--snapshot", str(target), str(script)) == 2
    said = capfd.readouterr()
    assert json.loads(said.out.splitlines()[-1])["peak_allocated_bytes"] == 4 * 2**20
    assert "cannot be written" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"]


def test_a_script_that_fails_gives_no_forecast(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script.write_text(GOOD + "raise KeyError('lr')\n")
    assert code_of(str(script)) == 3
    said = capfd.readouterr()
    assert said.out.startswith(
        "NO ANSWER  train.py failed before its first step ended: KeyError: 'lr' (train.py:3); "
        "at least 4.00 MiB were in use, an a100-80gb offers "
    )
    assert "KeyError: 'lr'" in said.err


def test_a_script_that_uses_no_gpu_is_told(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script.write_text("import torch\ntorch.ones(3)\n")
    assert code_of(str(script)) == 3
    assert capfd.readouterr().out.startswith("NO ANSWER  train.py put nothing on the GPU")
    script.write_text(GOOD)
    assert code_of(str(script)) == 0
    assert "nothing on the GPU" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "text", ["import bitsandbytes\n", "raise ImportError('You need to install `bitsandbytes` for this optimizer')\n"]
)
def test_a_missing_library_of_kernels_is_known_by_name(
    script: Path, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    script.write_text(text)
    assert code_of("--json", str(script)) == 3
    answer = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert [line for line in answer["assumptions"] if line.startswith("bitsandbytes cannot run")]


def test_ctrl_c_prints_the_forecast_so_far(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script.write_text(GOOD + "raise KeyboardInterrupt\n")
    assert code_of("--json", str(script)) == 130
    answer = json.loads(capfd.readouterr().out)
    assert (answer["ended"], answer["verdict"], answer["peak_allocated_bytes"]) == ("interrupted", "unknown", 4 << 20)


def test_a_gate_that_nothing_went_through_is_not_passed(script: Path) -> None:
    script.write_text("x = 1\n")
    assert code_of(str(script)) == 3
    assert code_of("--check", str(script)) == 3


class TestFromPython:
    """`vramcast.run`, each in a process of its own."""

    def test_the_answer_is_that_of_the_command(self, script: Path, capfd: pytest.CaptureFixture[str]) -> None:
        code_of("--json", "--gpu", "rtx-3090", str(script))
        told = json.loads(capfd.readouterr().out)
        run = vramcast.run(script, gpu="rtx-3090", folder=script.parent)
        same = ("peak_allocated_bytes", "peak_reserved_bytes", "verdict", "ended", "live_lines", "gpu")
        assert {name: run.to_dict()[name] for name in same} == {name: told[name] for name in same}

    def test_a_script_that_fails_has_no_verdict(self, script: Path) -> None:
        script.write_text(GOOD + "raise RuntimeError('no data')\n")
        with pytest.raises(vramcast.ScriptError, match="RuntimeError: no data"):
            vramcast.run(script, folder=script.parent)

    def test_running_out_of_memory_is_an_answer(self, script: Path) -> None:
        script.write_text("import torch\nx = torch.empty(2**34, device='cuda')\n")
        run = vramcast.run(script, gpu="rtx-3090", folder=script.parent)
        assert (run.verdict, run.out_of_memory[0].requested_bytes) == ("does_not_fit", 2**36)

    def test_bad_options_are_refused_here(self, script: Path) -> None:
        with pytest.raises(vramcast.InputError, match=r"^steps="):
            vramcast.run(script, steps=0)
        with pytest.raises(vramcast.VramcastError, match="no such file"):
            vramcast.run("missing.py", folder=script.parent)
