"""However a script ends, there is an answer: its first line says what happened, its exit code and its JSON agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "vramcast", "run", "--gpu", "rtx-3090"]
MIB_256 = "import torch\na = torch.empty(2**28, dtype=torch.uint8, device='cuda')\n"


@dataclass
class Ended:
    """What a shell sees of a command."""

    code: int
    out: str
    err: str

    @property
    def first(self) -> str:
        """The first line of the answer; a script's own prints come before it."""
        return next(line for line in self.out.splitlines() if line.startswith(("FITS", "TIGHT", "DOES", "NO A", "RAN")))

    @property
    def answer(self) -> dict[str, Any]:
        """Stdout is JSON and nothing else."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def do(script: str, *flags: str, shell: str = "{}", **environment: str) -> Ended:
        (tmp_path / "train.py").write_text(script)
        command = " ".join([*COMMAND, *flags, "train.py"])
        done = subprocess.run(
            ["bash", "-c", shell.format(command)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={**os.environ, "COLUMNS": "400", **environment},
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return do


@pytest.mark.parametrize(
    ("script", "first"),
    [
        (
            "import nothere\n",
            "NO ANSWER  train.py failed before its first step ended: ModuleNotFoundError: No module named 'nothere' "
            "(train.py:1); nothing was on the GPU",
        ),
        ("def f(:\n", "NO ANSWER  train.py failed before its first step ended: SyntaxError: "),
        (
            MIB_256 + "import sys; sys.exit(3)\n",
            "NO ANSWER  train.py left with exit code 3 before its first step ended (train.py:3); at least 0.250 GiB were in use, "
            "an rtx-3090 offers 23.",
        ),
        (MIB_256 + "import sys; sys.exit('bad day')\n", "NO ANSWER  train.py left with the words 'bad day' before"),
        (
            MIB_256 + "import os; os._exit(0)\n",
            "NO ANSWER  the script ended by os._exit(0) after 1 allocation on the GPU; at least 0.250 GiB were in use, an rtx-3090 offers",
        ),
        (
            MIB_256 + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n",
            "NO ANSWER  the script was ended by SIGKILL after 1 allocation on the GPU; at least 0.250 GiB were in use, an rtx-3090 offers",
        ),
        (
            MIB_256 + "import ctypes\nctypes.string_at(0)\n",
            "NO ANSWER  the script was ended by SIGSEGV (train.py:4) after 1 allocation on the GPU; at least 0.250 GiB",
        ),
        (
            MIB_256 + "import ctypes\nctypes.CDLL(None).exit(7)\n",
            "NO ANSWER  the script ended by os._exit(7) after 1 allocation on the GPU; at least 0.250 GiB",
        ),
        (
            MIB_256 + "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'pass'])\n",
            "NO ANSWER  the script put another program in its place, which was not followed: ",
        ),
        (
            MIB_256 + "class Odd(BaseException): pass\nraise Odd('x')\n",
            "NO ANSWER  train.py failed before its first step ended: Odd: x (train.py:4); at least 0.250 GiB",
        ),
        ("import torch\ntorch.ones(3)\n", "NO ANSWER  train.py put nothing on the GPU (does it run on device='cuda'?)"),
        (
            MIB_256 + "try: torch.cuda.graph(None)\nexcept Exception: pass\n",
            "NO ANSWER  train.py went on without what cannot be followed: torch.cuda.graph cannot run on a virtual GPU: ",
        ),
        (
            MIB_256 + "torch.cuda.graph(None)\n",
            "NO ANSWER  train.py needs what cannot be followed, before its first step ended (train.py:3): torch.cuda.graph cannot run",
        ),
    ],
    ids="import syntax exit-3 exit-words os-exit sigkill sigsegv c-exit exec odd-error no-gpu swallowed refused".split(),
)
def test_no_answer_is_said_first_and_has_its_own_code(run: Run, script: str, first: str) -> None:
    ended = run(script, "--check")
    assert ended.first.startswith(first)
    assert ended.code == 3


def test_a_refusal_outlives_the_process(run: Run) -> None:
    swallowed = "try: torch.cuda.graph(None)\nexcept Exception: pass\nimport os\nos.kill(os.getpid(), 9)\n"
    (refusal,) = run(MIB_256 + swallowed, "--json").answer["refusals"]
    assert refusal.startswith("torch.cuda.graph cannot run on a virtual GPU")


OUT_OF_MEMORY = "import torch\ndef ask():\n    return torch.empty(2**35, dtype=torch.uint8, device='cuda')\n"


def test_out_of_memory_that_ends_the_script(run: Run) -> None:
    ended = run(OUT_OF_MEMORY + "ask()\n")
    assert ended.first.startswith("RAN OUT OF MEMORY  at step 1, train.py:3 in ask: asked 32.0 GiB, 23.")
    assert ended.first.endswith(" (rtx-3090)")
    assert ended.code == 0
    assert run(OUT_OF_MEMORY + "ask()\n", "--check", "--json").code == 1


def test_out_of_memory_that_is_caught(run: Run) -> None:
    script = (
        MIB_256 + OUT_OF_MEMORY + "try: ask()\nexcept torch.OutOfMemoryError: pass\nb = torch.ones(9, device='cuda')\n"
    )
    ended = run(script, "--check")
    assert ended.first.startswith("RAN OUT OF MEMORY  at step 1, train.py:5 in ask: asked 32.0 GiB, 23.")
    assert ended.first.endswith("; the script went on")
    assert ended.code == 0
    strict = run(script, "--check", "--strict", "--json")
    assert (strict.code, strict.answer["verdict"]) == (1, "tight")


def test_an_error_after_out_of_memory_that_was_caught_is_the_scripts_own(run: Run) -> None:
    script = (
        OUT_OF_MEMORY
        + "try: ask()\nexcept torch.OutOfMemoryError: pass\nb = torch.ones(9, device='cuda')\nraise KeyError\n"
    )
    assert run(script, "--json").answer["verdict"] == "unknown"
    translated = OUT_OF_MEMORY + "try: ask()\nexcept torch.OutOfMemoryError: raise RuntimeError('no batch size runs')\n"
    assert run(translated, "--json").answer["verdict"] == "does_not_fit"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (MIB_256 + "import sys; sys.stdout.close()\n", 0),
        (MIB_256 + "import os; os.close(1)\n", 0),
        (MIB_256 + "import io, sys; sys.stdout = io.StringIO()\n", 0),
        (MIB_256 + "import sys; sys.stdout = None\n", 0),
        (MIB_256 + "import atexit; atexit.register(print, 'bye bye')\n", 0),
        (MIB_256 + "import atexit, os; atexit.register(os._exit, 5)\n", 0),
        (MIB_256 + "import sys; sys.stdout.write('no newline')\n", 0),
        (MIB_256 + "import threading, sys; threading.Thread(target=lambda: sys.exit(3)).start()\n", 0),
        (MIB_256 + 'print(\'{"verdict": "fits"}\')\n', 0),
    ],
    ids="closed fd-closed replaced none atexit atexit-exit no-newline thread prints-json".split(),
)
def test_what_a_script_does_to_its_output_does_not_reach_the_answer(run: Run, script: str, code: int) -> None:
    ended = run(script, "--json")
    assert (ended.code, ended.answer["verdict"], ended.answer["peak_allocated_bytes"]) == (code, "fits", 2**28)


def test_the_answer_begins_on_a_line_of_its_own(run: Run) -> None:
    lines = run(MIB_256 + "print('unfinished', end='')\n").out.splitlines()
    assert lines[0] == "unfinished"
    assert lines[1].startswith("FITS  needs ")


def test_what_exit_handlers_and_threads_take_counts(run: Run) -> None:
    at_exit = "import atexit\natexit.register(lambda: torch.empty(2**29, dtype=torch.uint8, device='cuda'))\n"
    assert run(MIB_256 + at_exit, "--json").answer["peak_allocated_bytes"] == 2**28 + 2**29
    thread = "import threading\nthreading.Thread(target=lambda: torch.empty(2**29, dtype=torch.uint8, device='cuda')).start()\n"
    assert run(MIB_256 + thread, "--json").answer["peak_allocated_bytes"] == 2**28 + 2**29


class TestForks:
    def test_one_answer_and_a_fork_may_not_use_the_gpu_of_its_parent(self, run: Run) -> None:
        script = MIB_256 + (
            "import os\nif os.fork() == 0:\n    b = torch.empty(2**30, dtype=torch.uint8, device='cuda')\nelse:\n    print(os.wait()[1])\n"
        )
        ended = run(script, "--json")
        assert (ended.code, ended.answer["peak_allocated_bytes"], ended.answer["verdict"]) == (0, 2**28, "fits")
        assert "Cannot re-initialize CUDA in forked subprocess" in ended.err
        assert "256\n" in ended.err  # the fork's exit code 1, as on a card

    def test_a_fork_that_uses_the_gpu_first_is_named(self, run: Run) -> None:
        script = "import torch, os\nif os.fork() == 0:\n    torch.empty(9, device='cuda')\nelse:\n    os.wait()\n"
        ended = run(script, "--json")
        assert (ended.code, ended.answer["verdict"]) == (3, "unknown")
        assert ended.answer["children"][0].startswith("a fork of the script, process ")

    def test_programs_that_it_starts_are_named(self, run: Run) -> None:
        script = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'pass'])\n"
        ended = run(script)
        assert ended.code == 3
        assert "NO ANSWER  train.py put nothing on the GPU" in ended.first
        assert "which was not followed" in ended.first


@pytest.mark.parametrize("shell", ["{} | head -1; exit ${{PIPESTATUS[0]}}", "{} > /dev/full", "{} >&-"])
def test_the_code_is_the_verdict_s_whoever_reads(run: Run, shell: str) -> None:
    assert run(OUT_OF_MEMORY + "ask()\n", "--check", shell=shell).code == 1


def test_a_picture_is_written_though_nobody_reads_the_answer(run: Run, tmp_path: Path) -> None:
    assert run(MIB_256, "--timeline", "m.svg", shell="{} | true; exit ${{PIPESTATUS[0]}}").code == 0
    assert (tmp_path / "m.svg").read_text().startswith("<svg")


def test_an_ascii_terminal(run: Run) -> None:
    ended = run(MIB_256, PYTHONIOENCODING="ascii")
    assert ended.code == 0
    assert ended.out.isascii()


def test_the_environment_is_the_users(run: Run) -> None:
    script = (
        "import os, torch\nprint(sorted(name for name in os.environ if name.startswith(('OPENBLAS', 'PYDANTIC'))))\n"
    )
    ended = run(
        script,
        shell="env -u OPENBLAS_NUM_THREADS -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE -u PYDANTIC_DISABLE_PLUGINS {}",
    )
    assert ended.out.splitlines()[0] == "[]"


def test_a_module_s_packages_see_the_scripts_arguments(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "tool"
    package.mkdir()
    (package / "__init__.py").write_text("import sys\nseen = sys.argv[1:]\n")
    (package / "main.py").write_text("import tool, sys\nprint(tool.seen, sys.argv[1:])\n" + MIB_256)
    done = subprocess.run(
        [*COMMAND, "-m", "tool.main", "--x", "1"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.splitlines()[0] == "['--x', '1'] ['--x', '1']"
    assert done.returncode == 0


class TestSignals:
    """The command passes on what it is sent; what the script makes of it is the script's."""

    SCRIPT = MIB_256 + "print('ready', flush=True)\nimport time\ntime.sleep(600)\n"

    def ended(self, tmp_path: Path, number: int) -> tuple[int, str]:
        (tmp_path / "train.py").write_text(self.SCRIPT)
        command = subprocess.Popen(
            [*COMMAND, "train.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            # A shell's background jobs ignore Ctrl-C, and so would what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert command.stdout is not None
        assert command.stdout.readline() == "ready\n"
        command.send_signal(number)
        out, _ = command.communicate(timeout=120)
        return command.returncode, out

    def test_ctrl_c(self, tmp_path: Path) -> None:
        code, out = self.ended(tmp_path, signal.SIGINT)
        assert code == 130
        assert out.startswith("NO ANSWER  interrupted after 1 allocation on the GPU; at least 0.250 GiB")

    def test_termination(self, tmp_path: Path) -> None:
        code, out = self.ended(tmp_path, signal.SIGTERM)
        assert code == 3
        assert out.startswith("NO ANSWER  the script was ended by SIGTERM after 1 allocation on the GPU")

    def test_nothing_is_left_running_when_the_command_is_killed(self, tmp_path: Path) -> None:
        (tmp_path / "train.py").write_text("import os\nprint(os.getpid(), flush=True)\n" + self.SCRIPT)
        command = subprocess.Popen([*COMMAND, "train.py"], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        assert command.stdout is not None
        script = int(command.stdout.readline())
        assert command.stdout.readline() == "ready\n"
        command.kill()
        command.communicate()
        until = time.monotonic() + 60
        while Path(f"/proc/{script}").exists() and "Z" not in Path(f"/proc/{script}/stat").read_text().split()[2]:
            assert time.monotonic() < until


def test_strict_is_for_check(run: Run) -> None:
    ended = run(MIB_256, "--strict")
    assert ended.code == 2
    assert "--strict" in ended.err
