"""`vramcast fit`: which cards, which prices, which code."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from vramcast.cli.fit import fit
from vramcast.errors import InputError

SMALL = ("--batch-size", "2", "--sequence-length", "64")


def run(*arguments: str) -> int:
    app = App(result_action="return_value")
    app.command(fit)
    code = app(["fit", *arguments], exit_on_error=False, print_error=False, help_on_error=False)
    assert isinstance(code, int)
    return code


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.fixture
def card() -> tuple[str, ...]:
    return ("--gpu", "custom", "--gpu-memory", "300MiB")


def test_json_of_one_card(capsys: pytest.CaptureFixture[str], tiny_gpt2: str, card: tuple[str, ...]) -> None:
    answer = document(capsys, tiny_gpt2, *SMALL, *card)
    assert (answer["schema_version"], answer["workload"], answer["length"]) == (1, "training", 64)
    [row] = answer["rows"]
    assert (row["gpu"], row["verdict"]) == ("custom", "does_not_fit")
    assert row["largest_batch"]["largest"] == row["longest_length"]["largest"] == 0
    assert row["largest_batch"]["shortfall_bytes"] > 0
    assert answer["choice"] is None


def test_check_exits_with_1_when_no_card_fits(tiny_gpt2: str, card: tuple[str, ...]) -> None:
    assert run(tiny_gpt2, *SMALL, *card, "--check") == 1
    assert run(tiny_gpt2, *SMALL, *card) == 0


def test_text_has_a_line_per_card(capsys: pytest.CaptureFixture[str], tiny_gpt2: str, card: tuple[str, ...]) -> None:
    assert run(tiny_gpt2, *SMALL, *card) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("FITS NONE of the 1 cards")
    assert "DOES NOT FIT" in printed


class Asked(Exception):
    """Carries what `fit_model` was asked."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(model: str, **fields: Any) -> None:
        fields.pop("progress")
        raise Asked({"model": model, **fields})

    monkeypatch.setattr("vramcast.cli.fit.fit_model", ask)


@pytest.mark.usefixtures("asked")
def test_only_given_flags_reach_the_job() -> None:
    with pytest.raises(Asked) as question:
        run("gpt2", "--optimizer", "sgd", "--on", "l4", "h100-sxm", "--on", "t4", "--price", "l4=0.8")
    assert question.value.args[0] == {
        "model": "gpt2",
        "workload": "training",
        "on": ("l4", "h100-sxm", "t4"),
        "prices": {"l4": 0.8},
        "offline": False,
        "optimizer": "sgd",
    }


@pytest.mark.usefixtures("asked")
def test_generation_has_its_own_flags() -> None:
    with pytest.raises(Asked) as question:
        run("gpt2", "--workload", "generation", "--prompt-length", "9", "--offline")
    fields = question.value.args[0]
    assert (fields["workload"], fields["prompt_length"], fields["offline"]) == ("generation", 9, True)
    assert "precision" not in fields


@pytest.mark.usefixtures("asked")
def test_flags_win_over_the_price_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("gpu,usd_per_hour\nl4,0.5\nt4,0.3\n", encoding="utf-8")
    with pytest.raises(Asked) as question:
        run("gpt2", "--price-file", str(path), "--price", "l4=0.8")
    assert question.value.args[0]["prices"] == {"l4": 0.8, "t4": 0.3}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("gpt2 --prompt-length 5", "--prompt-length=5: is a flag of --workload generation"),
        ("gpt2 --workload generation --optimizer sgd", "--optimizer='sgd': is a flag of --workload training"),
        ("gpt2 --workload generation --precision amp-bf16", "choose one of fp32, bf16 or fp16"),
        ("gpt2 --on rtx-9999", "not in the hardware file"),
        ("gpt2 --price l4", "write NAME=USD_PER_HOUR"),
        ("gpt2 --price-file prices.json", "give a .toml or a .csv file"),
        ("gpt2 --sequence-length 2048", "learned positions up to its context length 1024"),
        ("gpt2 --gpu-memory 24GiB", "has its own memory"),
        ("gpt5", "model='gpt5'"),
    ],
)
def test_bad_input(command: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        run(*command.split(), "--offline")
    assert message in str(refusal.value)
