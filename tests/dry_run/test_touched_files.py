"""What a script does to files is told: new ones, those it replaces, and those it takes away."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vramcast.dry_run.files import TouchedFiles


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[str]]:
    monkeypatch.chdir(tmp_path)

    def do(script: Callable[[], object]) -> list[str]:
        files = TouchedFiles()
        with files.noted():
            script()
        return files.sentences()

    return do


Told = Callable[[Callable[[], object]], list[str]]


def test_new_files(told: Told) -> None:
    def script() -> None:
        for name in "abcd":
            Path(name).write_text(name)
        Path("a").write_text("again")

    assert told(script) == ["the script itself wrote 4 files, which is real: a, b, c, ..."]


def test_reading_is_no_writing(told: Told) -> None:
    Path("a").write_text("kept")
    assert told(lambda: Path("a").read_text()) == []


def test_a_file_that_was_there_is_overwritten(told: Told) -> None:
    Path("ckpt.pt").write_text("precious")
    assert told(lambda: Path("ckpt.pt").write_text("x")) == [
        "the script itself overwrote 1 file, which is real: ckpt.pt"
    ]


def test_a_file_put_in_place_counts_under_its_last_name(told: Told) -> None:
    Path("old").write_text("precious")

    def script() -> None:
        for target in ("old", "new"):
            Path("part").write_text("x")
            Path("part").replace(target)

    assert told(script) == [
        "the script itself wrote 1 file, which is real: new",
        "the script itself overwrote 1 file, which is real: old",
    ]


def test_temporary_files_that_are_gone_are_not_told(told: Told) -> None:
    def script() -> None:
        with tempfile.NamedTemporaryFile(dir=".") as file:
            file.write(b"x")
        Path("a").write_text("x")
        Path("a").absolute().unlink()

    assert told(script) == []


def test_what_was_there_and_is_removed(told: Told) -> None:
    Path("checkpoint-1").mkdir()
    (Path("checkpoint-1") / "model").write_text("precious")
    Path("log").write_text("precious")

    def script() -> None:
        Path("checkpoint-2").mkdir()
        (Path("checkpoint-2") / "model").write_text("x")
        shutil.rmtree("checkpoint-1")
        shutil.rmtree("checkpoint-2")
        Path("log").unlink()

    assert told(script) == ["the script itself removed 2 paths, which is real: checkpoint-1, log"]


def test_a_name_that_no_file_can_have_stays_the_scripts_own_error(told: Told) -> None:
    def script() -> None:
        with pytest.raises(OSError, match="too long"):
            Path("x" * 300).write_text("x")

    assert told(script) == []


def test_runs_of_one_process_share_a_hook(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(lambda: None) == []
    added: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", added.append)
    assert told(lambda: Path("a").write_text("x")) == ["the script itself wrote 1 file, which is real: a"]
    assert added == []
