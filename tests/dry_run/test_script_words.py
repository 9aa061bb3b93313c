"""Where vramcast's own options end and the script's begin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.cli.script_arguments import delimited

WORDS = st.lists(st.text(min_size=1, max_size=8), max_size=6)


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["train.py", "--steps", "7"], 0),
        (["--gpu", "t4", "train.py", "--gpu", "x"], 2),
        (["--gpu=t4", "--check", "--json", "train.py"], 3),
        (["--until-end", "train.py"], 1),
        (["-m", "pkg.train", "--steps", "5"], 2),
        (["--steps", "2", "-m", "pkg.train", "file.py"], 4),
        (["--module=pkg.train", "x"], 1),
        (["--timeline", "out.svg", "train.py"], 2),
        (["--help"], 1),
        ([], 0),
    ],
)
def test_the_scripts_name_ends_the_options(words: list[str], own: int) -> None:
    assert delimited(words) == [*words[:own], "--", *words[own:]]


def test_an_end_that_is_given_stays() -> None:
    assert delimited(["--steps", "2", "--", "-odd.py", "--", "x"]) == ["--steps", "2", "--", "-odd.py", "--", "x"]


@given(arguments=WORDS)
def test_nothing_after_the_name_is_ours(arguments: list[str]) -> None:
    assert delimited(["--steps", "4", "train.py", *arguments]) == ["--steps", "4", "--", "train.py", *arguments]
