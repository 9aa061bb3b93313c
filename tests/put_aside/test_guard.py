"""Where originals go, what is told of what cannot be guarded, and runs whose watcher was killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.put_aside.world import World, snapshot

from vramcast.put_aside import FileGuard, PassiveWatch, put_back
from vramcast.put_aside.asides import Asides
from vramcast.put_aside.events import command_name

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def far_store(world: World) -> Iterator[Path]:
    """A store on another filesystem than the files."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == world.files.stat().st_dev:
        pytest.skip("one filesystem alone")
    store = SHARED_MEMORY / f"vramcast-test-{os.getpid()}"
    yield store
    shutil.rmtree(store, ignore_errors=True)


def harm(files: Path) -> None:
    """One of each."""
    (files / "model.pt").write_text("x")
    with (files / "prev.pt").open("ab") as file:
        file.write(b"x")
    shutil.rmtree(files / "ckpt")
    (files / "best.pt").unlink()


def test_originals_stay_on_their_filesystem(world: World, far_store: Path) -> None:
    world.store = far_store
    world.run(
        "Path('model.pt').write_text('x'); shutil.rmtree('ckpt'); os.rename('prev.pt', 'p'); print(os.listdir('.'))"
    )
    kept = list((far_store / "originals").iterdir())
    assert kept == []
    assert world.new() == ["p"], "the folder for originals lies out of the script's way"
    report = world.put_back()
    assert world.after() == world.before
    assert world.new() == []
    assert not report.not_restored


@pytest.mark.parametrize("far", [False, True])
def test_where_no_file_can_have_two_names(
    world: World, far_store: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", link)
    store = far_store if far else world.store
    with FileGuard(store).watching():
        harm(world.files)
        (world.files / "empty").rename(world.files / "full")
    report = put_back(store)
    assert world.after() == world.before
    assert sorted(Path(name).name for name in report.restored) == [
        "a.bin",
        "b.bin",
        "best.pt",
        "empty",
        "model.pt",
        "prev.pt",
    ]
    assert world.new() == []


def test_where_the_folder_cannot_be_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def in_the_store(self: Path, target: Path | str) -> Path:
        if Path(target).parent == world.files:
            raise PermissionError(13, "read only folder")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", in_the_store)
    inode = (world.files / "model.pt").stat().st_ino
    with FileGuard(world.store).watching():
        for text in ("one", "two"):
            (world.files / "model.pt").write_text(text)
        with (world.files / "prev.pt").open("r+") as file:
            file.write("x")
        (world.files / "ckpt" / "a.bin").write_text("x")
    report = world.put_back()
    assert world.after() == world.before
    assert (world.files / "model.pt").stat().st_ino == inode
    assert not report.not_restored


def test_what_cannot_be_put_aside_is_told_and_the_script_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Asides, "keep", full)
    monkeypatch.chdir(world.files)
    with FileGuard(world.store).watching():
        Path("model.pt").write_text("x")
    monkeypatch.undo()
    with FileGuard(world.store).watching():
        (world.files / "model.pt").write_text("y")  # not to be taken for the original
    report = world.put_back()
    assert (world.files / "model.pt").read_text() == "y"
    assert report.sentences() == [
        "could not guard 1 file, what the script did is real: model.pt (No space left on device)"
    ]


def test_what_cannot_be_put_back_is_told_with_its_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.files)
    with FileGuard(world.store).watching():
        Path("model.pt").write_text("x")
        Path("prev.pt").write_text("x")
    replace = Path.replace

    def broken(self: Path, target: Path | str) -> Path:
        if Path(target).name == "model.pt":
            raise OSError(5, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", broken)
        patch.setattr("vramcast.put_aside.restore._write_back", lambda aside, _, path: broken(aside, path))
        report = world.put_back()
    assert report.restored == ("prev.pt",)
    (told,) = report.not_restored
    assert told.startswith("model.pt (Input/output error; the original is ")
    original = Path(told.removesuffix(")").rpartition(" is ")[2])
    assert original.read_bytes() == world.before["model.pt"].content
    assert report.sentences()[-1].startswith("could NOT put back 1 file: model.pt (")
    assert world.put_back().not_restored == ()
    assert world.after() == world.before


def test_code_that_opens_files_unheard_can_say_so(world: World) -> None:
    guard = FileGuard(world.store)
    guard.about_to_write(world.files / "model.pt")  # nobody watches
    inode = (world.files / "prev.pt").stat().st_ino
    with guard.watching():
        guard.about_to_write(str(world.files / "model.pt"))
        assert (world.files / "model.pt").stat().st_size == 0
        guard.about_to_write(os.fsencode(world.files / "prev.pt"), truncates=False)
        assert (world.files / "prev.pt").read_bytes() == world.before["prev.pt"].content
        assert (world.files / "prev.pt").stat().st_ino != inode
        guard.about_to_write(world.files / "new.pt")
        guard.about_to_write(object())
    assert [Path(name).name for name in world.put_back().restored] == ["model.pt"]
    assert world.after() == world.before


def test_other_programs_are_named(world: World) -> None:
    world.run(
        "subprocess.run(['/bin/true', '--token', 'secret']); os.system('true;  true'); os.popen('echo hi').read()\n"
        "subprocess.run(['uname'], stdout=-3); os.posix_spawn('/bin/true', ['true'], {})\n"
        "child = os.fork()\n"
        "if child == 0: os.execv('/bin/cat', ['cat', '/dev/null'])\n"
        "os.wait()\n"
        "multiprocessing.get_context('spawn').Process(target=print).start()",
        "import multiprocessing, os, subprocess",
    )
    report = world.put_back()
    python = f"{Path(sys.executable).name} (multiprocessing)"
    assert report.unguarded[:3] == ("true", "true; true", "echo hi")
    assert sorted(report.unguarded[3:]) == ["cat", python]
    assert report.sentences() == [
        "the script started 5 other programs, whose effects are real: true, true; true, echo hi, ..."
    ]


def test_a_long_shell_line_is_cut() -> None:
    assert command_name(["/bin/sh", "-c", "x" * 100]) == "x" * 57 + "..."
    assert command_name(["/usr/bin/git", "push", "https://token@host"]) == "git"


def test_a_database_that_is_only_read_is_not_copied(world: World) -> None:
    world.add_database()
    with FileGuard(world.store).watching():
        for address in (f"file:{world.files}/db?mode=ro", f"file://{world.files}/db?immutable=1", "file:x?mode=memory"):
            with closing(sqlite3.connect(address, uri=True)) as database:
                database.execute("select 1")
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("create table t (x)")
    assert list((world.store / "originals").iterdir()) == []


def test_the_store_and_folders_of_its_owner_are_left_alone(world: World) -> None:
    with FileGuard(world.store, left_alone=[world.files / "ckpt"]).watching():
        (world.store / "answer").write_text("x")
        (world.files / "ckpt" / "a.bin").write_text("x")
        (world.files / "ckpt" / "new").write_text("x")
    report = world.put_back()
    assert report.sentences() == []
    assert (world.files / "ckpt" / "a.bin").read_text() == "x"


def test_what_the_runner_writes_itself_is_not_heard(world: World) -> None:
    with FileGuard(world.store).watching() as guard:
        with guard.unheard():
            (world.files / "model.pt").write_text("a picture that was asked for")
        (world.files / "prev.pt").write_text("x")
    assert [Path(name).name for name in world.put_back().restored] == ["prev.pt"]
    assert (world.files / "model.pt").read_text() == "a picture that was asked for"


def test_nothing_is_heard_outside_the_block(world: World) -> None:
    with FileGuard(world.store).watching():
        pass
    harm(world.files)
    harmed = snapshot(world.files)
    assert world.put_back().sentences() == []
    assert snapshot(world.files) == harmed


def test_a_run_that_never_began_left_nothing(tmp_path: Path) -> None:
    assert put_back(tmp_path).sentences() == []


def test_a_line_that_was_not_finished_is_passed_over(world: World) -> None:
    with FileGuard(world.store).watching() as guard:
        (world.files / "model.pt").write_text("x")
        with guard.journal.path.open("ab") as journal:
            journal.write(b'["kept", {"path": "/etc')
        (world.files / "prev.pt").write_text("x")
    assert len(world.put_back().restored) == 2
    assert world.after() == world.before


class TestSentences:
    def test_of_a_guarded_run(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(world.files)
        with FileGuard(world.store).watching():
            Path("model.pt").replace("prev.pt")
            Path("model.pt").write_text("x")
            for name in "abcd":
                Path(name).write_text(name)
            shutil.rmtree("ckpt")
        assert world.put_back().sentences() == [
            "put back 2 files that the script overwrote: prev.pt, model.pt (--keep-writes leaves its own)",
            "put back 2 files that the script removed or renamed: ckpt/a.bin, ckpt/deep/b.bin (--keep-writes leaves its own)",
            "the script itself wrote 4 files, which is real: a, b, c, ...",
        ]

    def test_with_writes_kept(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(world.files)
        with PassiveWatch(world.store).watching():
            Path("prev.pt").write_text("x")
            for name in ("part", "new"):
                Path(name).write_text("x")
            Path("part").replace("model.pt")
            shutil.rmtree("ckpt")
            Path("empty").rename("full")
        assert world.put_back().sentences() == [
            "the script itself overwrote 2 files, which is real: prev.pt, model.pt",
            "the script itself removed 2 paths, which is real: ckpt, empty",
            "the script itself wrote 1 file, which is real: new",
        ]
        assert Path("model.pt").read_text() == "x"
