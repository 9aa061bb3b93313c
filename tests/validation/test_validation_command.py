"""`python -m validation`: exit codes and files, on the quickest rows."""

import json
from pathlib import Path

import pytest
from validation.__main__ import main


def test_rows_are_forecast_in_processes_and_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    assert main(["--only", "liger-00", "--check", "--json", str(path)]) == 0
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [entry["id"] for entry in report["comparisons"]] == ["liger-005", "liger-006"]
    assert {entry["id"] for entry in report["not_forecast"]} == {"liger-001", "liger-003", "liger-008"}
    assert "liger-005" in capsys.readouterr().out


def test_check_fails_where_a_bar_is_missed() -> None:
    assert main(["--only", "liger-036", "--check"]) == 1
    assert main(["--only", "liger-036"]) == 0


def test_a_prefix_that_no_row_has_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
