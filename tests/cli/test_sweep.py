"""`vramcast sweep`: the grid as a table, JSON and CSV."""

import csv
import io
import json

import pytest
from cyclopts import App

from vramcast.cli.sweep import sweep
from vramcast.errors import InputError

GRID = ("--batch-sizes", "1,2", "--sequence-lengths", "32, 64")


def run(*arguments: str) -> int:
    app = App(result_action="return_value")
    app.command(sweep)
    code = app(["sweep", *arguments], exit_on_error=False, print_error=False, help_on_error=False)
    assert isinstance(code, int)
    return code


def test_the_same_grid_in_three_forms(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    assert run(tiny_gpt2, *GRID, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["batch_sizes"], document["sequence_lengths"]) == (1, [1, 2], [32, 64])
    assert run(tiny_gpt2, *GRID, "--csv") == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(line["peak_reserved_bytes"]) for line in lines] == [
        row["peak_reserved_bytes"] for row in document["rows"]
    ]
    assert run(tiny_gpt2, *GRID) == 0
    assert capsys.readouterr().out.startswith("device used (nvidia-smi")


def test_quick_is_labelled(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    assert run(tiny_gpt2, *GRID, "--quick") == 0
    assert capsys.readouterr().out.startswith("live tensors (lower bound of allocated)")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("gpt2 --batch-sizes 1,x --sequence-lengths 8", "--batch-sizes='1,x': write whole numbers separated by commas"),
        ("gpt2 --batch-sizes 1 --sequence-lengths 8,", "--sequence-lengths='8,': write whole numbers"),
        ("gpt2 --batch-sizes 0 --sequence-lengths 8", "batch_sizes=0: must be between 1 and"),
        (f"gpt2 --batch-sizes {'9' * 5000} --sequence-lengths 8", "write whole numbers"),
        ("gpt2 --batch-sizes 1 --sequence-lengths 2048", "learned positions up to its context length 1024"),
        ("gpt2 --batch-sizes 1 --sequence-lengths 8 --batch-size 3", "write batch_sizes"),
        ("gpt2 --batch-sizes 1 --sequence-lengths 8 --json --csv", "choose one of --json and --csv"),
        ("gpt2 --batch-sizes 1 --sequence-lengths 8 --gpu rtx-9999", "not in the hardware file"),
    ],
)
def test_bad_input(command: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        run(*command.split(), "--offline")
    assert message in str(refusal.value)
