"""A file that is being written takes the place of the old one at the end, or never."""

from pathlib import Path

import pytest

from vramcast.whole_file import replacing


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "peaks.json"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_folder_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "peaks.json"
    path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "peaks.json"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_gets_the_rights_of_any_new_file(tmp_path: Path) -> None:
    usual, path = tmp_path / "usual", tmp_path / "peaks.json"
    usual.touch()
    with replacing(path) as unfinished:
        unfinished.write_text("new")
    assert path.stat().st_mode == usual.stat().st_mode


def test_a_rename_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PermissionError), replacing(tmp_path / "peaks.json") as unfinished:
        unfinished.write_text("new")
    assert not list(tmp_path.iterdir())
