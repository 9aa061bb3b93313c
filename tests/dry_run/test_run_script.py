"""A script on a virtual GPU: its forecast, its lines, its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from user_scripts import HALVING, MODEL, TRAIN

from vramcast.dry_run import DryRun, Launch, run_script
from vramcast.dry_run.traceback import script_traceback
from vramcast.errors import InputError
from vramcast.hardware import cuda_context_bytes, find_gpu
from vramcast.job.script import ScriptOptions
from vramcast.units import MIB

Run = Callable[..., DryRun]
CONTEXT = cuda_context_bytes(find_gpu("rtx-3090")).bytes


def card(mib: int) -> str:
    """A capacity that leaves the allocator so many MiB."""
    return str(CONTEXT + mib * MIB)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a script's text among the files of a project; keywords are options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    (tmp_path / "model.py").write_text(MODEL)

    def do(text: str, *arguments: str, **options: object) -> DryRun:
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "model", raising=False)
        (tmp_path / "train.py").write_text(text)
        fields = {"gpu": "rtx-3090", **options}
        return run_script(Launch("train.py", arguments), ScriptOptions.model_validate(fields))

    return do


def printed(text: str) -> list[list[str]]:
    """Words of the lines that tell a step."""
    return [line.split() for line in text.splitlines() if line.startswith("step")]


def test_the_answer_is_what_the_script_reads_itself(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(TRAIN, "--steps", "3", until_end=True).answer
    steps = printed(capsys.readouterr().out)
    assert len(steps) == 3
    assert (answer.peak_allocated_bytes, answer.peak_reserved_bytes) == (int(steps[-1][2]), int(steps[-1][3]))
    assert (answer.ended, answer.optimizer_steps, answer.verdict) == ("end", 3, "fits")
    assert [step.peak_reserved_bytes for step in answer.steps] == [int(words[3]) for words in steps]
    assert answer.parameters == 512 * 64 + 2 * (64 * 64 + 64) + 64 * 512 + 512


def test_it_stops_after_the_asked_steps(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(TRAIN, steps=2).answer
    output = capsys.readouterr().out
    assert (answer.ended, answer.optimizer_steps) == ("steps", 2)
    assert len(printed(output)) == 1  # the second step ends inside `optimizer.step()`
    assert "done" not in output


def test_the_peak_is_the_sum_of_its_lines(run: Run) -> None:
    answer = run(TRAIN).answer
    assert sum(line.bytes for line in answer.live_lines) == answer.peak_allocated_bytes
    assert sum(item.bytes for item in answer.breakdown) == answer.peak_allocated_bytes
    weights = [line for line in answer.live_lines if line.category == "parameters"]
    assert {line.line for line in weights} == {"train.py:11 in <module>"}
    states = [line for line in answer.live_lines if line.category == "optimizer_states"]
    assert {line.line for line in states} == {"train.py:17 in <module>"}


def test_in_backward_the_line_is_that_of_the_forward(run: Run) -> None:
    """The gradient of the logits is the largest tensor that backward makes, and `cross_entropy` is where it comes from."""
    answer = run(TRAIN).answer
    gradient = next(line for line in answer.live_lines if line.op == "_log_softmax_backward_data")
    assert gradient.line == "model.py:19 in forward"
    assert gradient.bytes == 32 * 64 * 512 * 4


def test_phases_are_marked(run: Run) -> None:
    instants = {instant.name: instant.allocated_bytes for instant in run(TRAIN).answer.instants}
    assert instants["after_load"] < instants["after_forward"] <= instants["forward_peak"]
    assert instants["after_optimizer"] > instants["after_load"]


class TestOutOfMemory:
    def test_names_the_line_and_the_numbers(self, run: Run) -> None:
        # Room for two segments of 20 MiB, which the logits do not fit beside.
        done = run(TRAIN, "--batch", "256", capacity=card(65))
        (failed,) = done.answer.out_of_memory
        assert (done.answer.ended, done.answer.verdict) == ("out_of_memory", "does_not_fit")
        assert isinstance(done.error, torch.OutOfMemoryError)
        assert failed.line == "model.py:18 in forward"
        assert failed.module == "head"
        assert failed.requested_bytes == 256 * 64 * 512 * 4
        assert failed.free_bytes < failed.requested_bytes
        assert failed.free_bytes + failed.reserved_bytes == 65 * MIB

    def test_the_traceback_is_the_scripts_own(self, run: Run) -> None:
        error = run(TRAIN, "--batch", "256", capacity=card(65)).error
        assert error is not None
        text = script_traceback(error)
        assert 'File "train.py", line 15' in text
        assert "logits = self.head(x)" in text
        assert "vramcast" not in text
        assert "Tried to allocate 32.00 MiB" in text

    def test_a_script_that_catches_it_goes_on(self, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        answer = run(HALVING, capacity=card(75)).answer
        assert capsys.readouterr().out == "64\n"
        assert [failed.requested_bytes for failed in answer.out_of_memory] == []
        answer = run(HALVING, capacity=card(45)).answer
        assert capsys.readouterr().out == "32\n"
        assert [failed.requested_bytes for failed in answer.out_of_memory] == [64 * MIB]
        assert (answer.ended, answer.peak_reserved_bytes) == ("end", 32 * MIB)

    def test_a_replay_of_what_was_caught_is_what_happened(self, run: Run) -> None:
        """A failed request empties the cache, which the timeline holds as well."""
        text = (
            "import torch\nkept = torch.empty(4, 2**20, device='cuda')\ngone = torch.empty(4, 2**20, device='cuda')\ndel gone\n"
            + HALVING
        )
        done = run(text, capacity=card(75))
        assert len(done.answer.out_of_memory) == 1
        assert done.answer.peak_reserved_bytes == done.machine.peak_reserved_bytes
        assert done.answer.peak_allocated_bytes == done.machine.peak_allocated_bytes == (16 + 32) * MIB

    def test_keep_going_tells_what_it_would_take(self, run: Run) -> None:
        answer = run(TRAIN, "--batch", "256", capacity="64MiB", keep_going=True).answer
        roomy = run(TRAIN, "--batch", "256").answer
        assert (answer.verdict, answer.ended, answer.out_of_memory) == ("does_not_fit", "steps", ())
        assert answer.peak_reserved_bytes == roomy.peak_reserved_bytes

    def test_exactly_the_capacity_is_enough(self, run: Run) -> None:
        """Reserved memory without a limit is a capacity that suffices, and one segment less does not without giving back."""
        need = run(TRAIN).answer.peak_reserved_bytes
        enough = run(TRAIN, capacity=str(need + CONTEXT)).answer
        assert (enough.ended, enough.num_alloc_retries) == ("steps", 0)
        less = run(TRAIN, capacity=str(need + CONTEXT - 2 * MIB)).answer
        assert less.ended == "out_of_memory" or less.num_alloc_retries > 0


class TestSteps:
    def test_two_optimizers_make_one_step(self, run: Run) -> None:
        text = """
import torch
a, b = (torch.nn.Linear(8, 8).cuda() for _ in range(2))
optimizers = [torch.optim.SGD(a.parameters(), 0.1), torch.optim.AdamW(b.parameters())]
for _ in range(5):
    b(a(torch.ones(2, 8, device="cuda"))).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
"""
        assert run(text, steps=2).answer.optimizer_steps == 2
        assert run(text, until_end=True).answer.optimizer_steps == 5

    def test_no_except_of_the_script_stops_the_end(self, run: Run) -> None:
        text = """
import torch
model = torch.nn.Linear(8, 8).cuda()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(5):
    try:
        model(torch.ones(2, 8, device="cuda")).sum().backward()
        optimizer.step()
    except Exception:
        raise SystemExit(7)
"""
        assert run(text, steps=3).answer.ended == "steps"


class TestEndings:
    def test_a_generation_has_no_steps(self, run: Run) -> None:
        answer = run("import torch\nx = torch.ones(2**20, device='cuda')\n").answer
        assert (answer.ended, answer.optimizer_steps, answer.peak_allocated_bytes) == ("end", 0, 4 * MIB)

    @pytest.mark.parametrize(("code", "ended"), [("0", "end"), ("3", "exit"), ("'bad data'", "exit")])
    def test_an_exit_code_is_told(self, run: Run, code: str, ended: str) -> None:
        assert run(f"import sys\nsys.exit({code})\n").answer.ended == ended

    def test_its_own_error_is_told_and_traced(self, run: Run) -> None:
        done = run("def load():\n    raise FileNotFoundError('data.bin')\n\nload()\n")
        assert (done.answer.ended, done.answer.error) == ("error", "FileNotFoundError: data.bin")
        assert done.error is not None
        text = script_traceback(done.error)
        assert text.startswith('Traceback (most recent call last):\n  File "train.py", line 4, in <module>\n    load()')

    def test_nothing_of_it_stays(self, run: Run) -> None:
        before = list(sys.argv), list(sys.path), dict(os.environ), torch.cuda.is_available()
        run("import sys\nsys.path.append('x')\nsys.argv.append('y')\nraise ValueError\n", world_size=4)
        assert (list(sys.argv), dict(os.environ), torch.cuda.is_available()) == (before[0], *before[2:])
        assert sys.path[1:] == before[1]  # the fixture's own entry is first


class TestAllocatorSettings:
    @pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
    def test_are_read_when_the_script_first_uses_the_gpu(self, run: Run, name: str) -> None:
        text = (
            f"import os\nos.environ['{name}'] = 'expandable_segments:True'\n"
            + "import torch\nx = torch.ones(5 * 2**20, device='cuda')\n"
        )
        try:
            reserved = run(text).answer.peak_reserved_bytes
        finally:
            os.environ.pop(name)
        assert reserved == run(text.split("\n", 2)[2], expandable_segments=True).answer.peak_reserved_bytes

    def test_the_flag_wins(self, run: Run) -> None:
        assert run(TRAIN, expandable_segments=True).machine.allocator_config.expandable_segments


def test_processes_see_their_rank(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        "import os, torch\nprint(os.environ['RANK'], os.environ['WORLD_SIZE'], torch.cuda.device_count())\n",
        world_size=16,
    )
    assert capsys.readouterr().out == "0 16 8\n"


@pytest.mark.parametrize(
    ("launch", "field"),
    [
        (Launch("missing.py"), "script"),
        (Launch("no.such.module", (), True), "module"),
        (Launch("json.", (), True), "module"),
    ],
)
def test_what_is_not_there_is_refused(run: Run, launch: Launch, field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}="):
        run_script(launch, ScriptOptions())


def test_a_module_runs_as_with_dash_m(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "tool"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text("from . import __name__ as n\nimport sys\nprint(__name__, n, sys.argv[1:])\n")
    done = run_script(Launch("tool.main", ("--x", "1"), True), ScriptOptions())
    assert (capsys.readouterr().out, done.answer.ended) == ("__main__ tool ['--x', '1']\n", "end")


def test_a_missing_library_that_is_done_without_is_told(run: Run) -> None:
    answer = run(
        "import torch\ntry:\n    import flash_attn\nexcept ImportError:\n    x = torch.ones(9, device='cuda')\n"
    ).answer
    assert answer.verdict == "fits"
    assert [line for line in answer.assumptions if "flash_attn" in line] == [
        "flash_attn is not installed here; where it is, the script may go another way: it was asked for at train.py:3 in <module>"
    ]
    looks = run("import importlib.util\nassert importlib.util.find_spec('flash_attn') is None\n").answer
    assert not any("flash_attn" in line for line in looks.assumptions)


def test_an_operator_without_a_rule_is_remembered_though_its_error_is_caught(run: Run) -> None:
    text = """
import torch
x = torch.randn(5, 2, 20, device="cuda").log_softmax(2)
lengths = torch.tensor([5, 5]), torch.tensor([3, 3])
try:
    torch.ops.vramcast_test.nothing(x)
except NotImplementedError:
    pass
"""
    with torch.library._scoped_library("vramcast_test", "FRAGMENT") as library:
        library.define("nothing(Tensor x) -> Tensor")
        answer = run(text).answer
    assert answer.verdict == "unknown"
    assert answer.refusals[0].startswith("vramcast_test.nothing.default has no rule for tensors without data")


def test_a_missing_library_of_kernels_is_explained(run: Run) -> None:
    answer = run("import flash_attn\n").answer
    assert answer.error == "ModuleNotFoundError: No module named 'flash_attn'"
    assert any("flash_attn" in line for line in answer.assumptions)
