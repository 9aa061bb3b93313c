"""`vramcast run` and the files that were there before: as they were, told, and back even where the command itself was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "vramcast", "run", "--json"]
HARM = """
import os, torch
from pathlib import Path
model = torch.nn.Linear(8, 8).cuda()
os.replace("model.pt", "prev.pt")
torch.save(model.state_dict(), "model.pt")
torch.save({"step": 5}, "state.pt")
Path("log.txt").open("a").write("more")
os.remove("notes.txt")
Path("new.txt").write_text("new")
"""
BEFORE = {name: f"precious {name}" for name in ("model.pt", "prev.pt", "state.pt", "log.txt", "notes.txt")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in BEFORE.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(errors="replace") for path in folder.iterdir() if path.name != "train.py"}


def run(folder: Path, script: str, *flags: str) -> dict[str, Any]:
    (folder / "train.py").write_text(script)
    done = subprocess.run([*COMMAND, *flags, "train.py"], capture_output=True, text=True, cwd=folder, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_everything_is_as_it_was_and_told(folder: Path) -> None:
    answer = run(folder, HARM)
    assert answer["verdict"] == "fits"
    assert contents(folder) == {**BEFORE, "new.txt": "new"}
    assert [line.partition(":")[0] for line in answer["files"]] == [
        "put back 3 files that the script overwrote",
        "put back 2 files that the script removed or renamed",
        "the script itself wrote 1 file, which is real",
    ]
    assert set(answer["files"]) <= set(answer["assumptions"])


def test_keep_writes_leaves_it(folder: Path) -> None:
    answer = run(folder, HARM, "--keep-writes")
    after = contents(folder)
    assert "notes.txt" not in after and "model.pt" not in after
    assert after["prev.pt"] == BEFORE["model.pt"]
    assert after["log.txt"] == BEFORE["log.txt"] + "more"
    assert after["state.pt"] != BEFORE["state.pt"]
    assert all("which is real" in line for line in answer["files"])


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "raise KeyError"])
def test_also_where_the_script_ends_so(folder: Path, end: str) -> None:
    assert run(folder, f"{HARM}{end}\n")["verdict"] == "unknown"
    assert contents(folder) == {**BEFORE, "new.txt": "new"}


def test_the_next_run_puts_back_what_a_killed_one_left(folder: Path) -> None:
    (folder / "train.py").write_text(f"{HARM}print('ready', flush=True)\nimport time\ntime.sleep(600)\n")
    command = subprocess.Popen([*COMMAND, "train.py"], stderr=subprocess.PIPE, text=True, cwd=folder)
    assert command.stderr is not None
    while command.stderr.readline() != "ready\n":
        assert command.poll() is None
    command.kill()
    command.communicate()
    assert contents(folder) != {**BEFORE, "new.txt": "new"}
    until = time.monotonic() + 60
    while contents(folder) != {**BEFORE, "new.txt": "new"}:  # once the script has gone too
        assert time.monotonic() < until
        run(folder, "import torch\nx = torch.ones(9, device='cuda')\n")
    assert not any((Path(os.environ["XDG_STATE_HOME"]) / "vramcast" / "runs").iterdir())
