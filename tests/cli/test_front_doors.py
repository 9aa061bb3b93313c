"""The two doors: what they load before a question is known, and that both lead to the same answer."""

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest
from cyclopts import App
from tests.cli.test_commands import modules_after, run

import vramcast
from vramcast.cli.main import COMMANDS, main

SIZES = {"batch_size": 2, "sequence_length": 64}


def loaded_by(*arguments: str) -> set[str]:
    """Rooms of vramcast, and numpy, that a command loads in a fresh process."""
    code = (
        "import sys\n"
        "from vramcast.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        "names = [name for name in sys.modules if name == 'numpy' or name.startswith('vramcast.')]\n"
        "print('\\n' + ' '.join('.'.join(name.split('.')[:2]) for name in names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_vramcast_loads_nothing_but_itself() -> None:
    code = "import sys; before = set(sys.modules); import vramcast; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"numpy", "pydantic", "rich", "cyclopts", "torch", "transformers"} == set()
    assert {name for name in done.stdout.split() if name.startswith("vramcast")} == {"vramcast", "vramcast.errors"}


def test_a_command_loads_only_its_own_rooms() -> None:
    assert loaded_by("--version") <= {"vramcast.cli", "vramcast.errors"}
    assert loaded_by("--help") <= {"vramcast.cli", "vramcast.errors"}
    forecasting = {"numpy", "vramcast.forecast", "vramcast.tapes", "vramcast.plan"}
    assert loaded_by("gpus", "--json") & forecasting == set()
    assert "vramcast.plan" not in loaded_by("training", "--help")


def test_json_of_a_forecast_needs_no_rich(tiny_gpt2: str) -> None:
    asked = (
        f"from vramcast.cli import main\ntry: main(['training', {tiny_gpt2!r}, '--json', '--sequence-length', '64'])"
    )
    assert "rich" not in modules_after(f"{asked}\nexcept SystemExit: pass")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_first_line_of_what_is_called(name: str) -> None:
    called = getattr(import_module(f"vramcast.cli.{name}"), name)
    text = called.help if isinstance(called, App) else called.__doc__
    assert text.splitlines()[0] == COMMANDS[name]


def test_python_dash_m(capfd: pytest.CaptureFixture[str]) -> None:
    assert subprocess.run([sys.executable, "-m", "vramcast", "--version"], check=True).returncode == 0
    assert vramcast.__version__ in capfd.readouterr().out
    assert subprocess.run([sys.executable, "-m", "vramcast", "training"], check=False).returncode == 2


def test_fit_from_python(tiny_gpt2: str) -> None:
    matrix = vramcast.fit(tiny_gpt2, on=["a100-80gb", "rtx-3090"], prices={"rtx-3090": 0.3}, offline=True, **SIZES)
    assert [row.gpu for row in matrix.rows] == ["a100-80gb", "rtx-3090"]
    assert matrix.choice is not None
    assert matrix.choice.gpu == "rtx-3090"


def test_sweep_from_python(tiny_gpt2: str) -> None:
    grid = vramcast.sweep(tiny_gpt2, batch_sizes=[1, 2], sequence_lengths=[64], offline=True)
    forecast = vramcast.training(tiny_gpt2, offline=True, **SIZES)
    assert grid.rows[1].peak_reserved_bytes == forecast.peak_reserved_bytes


def test_explanation_from_python(tiny_gpt2: str) -> None:
    explanation = vramcast.explanation(tiny_gpt2, offline=True, **SIZES)
    assert explanation.forecast == vramcast.training(tiny_gpt2, offline=True, **SIZES)


def test_both_doors_give_the_same_matrix(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    assert run("fit", tiny_gpt2, "--on", "l4", "--batch-size", "2", "--sequence-length", "64", "--json") == 0
    assert json.loads(capsys.readouterr().out) == vramcast.fit(tiny_gpt2, on=["l4"], **SIZES).to_dict()


@pytest.mark.parametrize("ask", [vramcast.training, vramcast.fit, vramcast.explanation])
def test_an_unknown_field_is_named(ask: object) -> None:
    with pytest.raises(vramcast.InputError, match="batchsize"):
        ask("gpt2", batchsize=8)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("command", "is_the_users"), [("gpt", True), ("measure", True), ("run", True), ("gpus", False)]
)
def test_what_runs_a_users_code_leaves_his_environment(
    monkeypatch: pytest.MonkeyPatch, command: str, is_the_users: bool
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "PYDANTIC_DISABLE_PLUGINS"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    before = dict(os.environ)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert (dict(os.environ) == before) == is_the_users
