"""`vramcast explain`: what it asks, and the three forms of its answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

import vramcast.cli.explain as command
from vramcast.cli.explain import explain
from vramcast.errors import InputError
from vramcast.explain import explanation
from vramcast.forecast import Forecast
from vramcast.forecast.answer import training_answer

JOB = ("--batch-size", "4", "--sequence-length", "64")


def run(*arguments: str) -> int:
    app = App(result_action="return_value")
    app.command(explain)
    code = app(["explain", *arguments], exit_on_error=False, print_error=False, help_on_error=False)
    assert isinstance(code, int)
    return code


@pytest.fixture
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every switch is forecast as the job itself."""
    known: list[Forecast] = []

    def answered(*arguments: Any, **options: Any) -> Any:
        answer = training_answer(*arguments, **options)
        known.append(answer.forecast)
        return answer

    monkeypatch.setattr(explanation, "training_answer", answered)
    monkeypatch.setattr(explanation, "training_forecast", lambda job, offline: known[-1])


@pytest.mark.usefixtures("no_switches")
def test_json_text_and_markdown(capsys: pytest.CaptureFixture[str], tiny_gpt2: str, tmp_path: Path) -> None:
    assert run(tiny_gpt2, *JOB, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema_version"], answer["tree"]["bytes"]) == (1, answer["forecast"]["peak_allocated_bytes"])
    assert answer["forecast"]["settings"]["batch_size"] == 4
    assert run(tiny_gpt2, *JOB, "--depth", "1") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("FITS")
    assert "└─" not in shown
    target = tmp_path / "explained.md"
    assert run(tiny_gpt2, *JOB, "--markdown", str(target)) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert target.read_text(encoding="utf-8").startswith("# Where each byte of training")


class Asked(Exception):
    """Raised with what the command asks, in place of an answer."""


def test_only_flags_that_were_given_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(model: str, **fields: Any) -> None:
        raise Asked(model, fields)

    monkeypatch.setattr(command, "explain_model", answer)
    with pytest.raises(Asked) as question:
        run("gpt2", "--optimizer", "sgd", "--offline")
    model, fields = question.value.args
    fields.pop("progress")
    assert (model, fields) == ("gpt2", {"optimizer": "sgd", "offline": True})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("gpt2 --depth 0", "--depth=0: write a whole number from 1"),
        ("gpt2 --json --markdown x.md", "choose one of --json and --markdown"),
        ("gpt2 --markdown no/such/folder/x.md", "there is no folder"),
        ("gpt2 --sequence-length 2048", "learned positions"),
        ("gpt5", "model='gpt5'"),
    ],
)
def test_bad_input(arguments: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        run(*arguments.split(), "--offline")
    assert message in str(refusal.value)
