"""`vramcast tapes`: list, show, record and path."""

from pathlib import Path

import pytest

from vramcast.cli.tapes import tapes
from vramcast.errors import InputError
from vramcast.tapes.library import cache_folder

JOB = ("--batch-size", "2", "--sequence-length", "32", "--optimizer", "sgd")


def run(*arguments: str) -> int:
    code = tapes(list(arguments), exit_on_error=False, print_error=False, help_on_error=False)
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder for recorded tapes."""
    monkeypatch.setenv("VRAMCAST_CACHE", str(tmp_path / "cache"))


def test_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("path") == 0
    assert capsys.readouterr().out.strip() == str(cache_folder())
    assert cache_folder().is_relative_to(tmp_path)


def test_recorded_tapes_are_listed_and_shown(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    assert run("record", tiny_gpt2, *JOB) == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.exists() for path in paths] == [True, True]

    assert run("list", tiny_gpt2) == 0
    listed = capsys.readouterr().out
    for path in paths:
        assert path.name in listed
    assert "optimizer of gpt2: optimizer sgd" in listed
    assert "B > 1" in listed

    assert run("show", tiny_gpt2, *JOB, "--section", "later forward", "--operators") == 0
    shown = capsys.readouterr().out
    assert "later forward, up to the mark after_forward" in shown
    assert "for each of L layers" in shown
    assert "backward" in shown
    assert "first forward" not in shown
    assert "addmm float32" in shown


def test_a_model_without_tapes_says_where_they_would_be(capsys: pytest.CaptureFixture[str], tiny_llama: str) -> None:
    assert run("list", tiny_llama) == 0
    shown = capsys.readouterr().out
    assert str(cache_folder()) in shown or "shipped" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--section", "sideways"), "--section='sideways': choose from load, first forward"),
        (("--limit", "0"), "--limit=0: write a whole number"),
    ],
)
def test_bad_flags_of_show(arguments: tuple[str, ...], message: str, tiny_gpt2: str) -> None:
    with pytest.raises(InputError) as refusal:
        run("show", tiny_gpt2, *JOB, *arguments)
    assert message in str(refusal.value)
