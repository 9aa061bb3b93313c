"""What changed past the guard, runs whose watcher was killed, and processes that end at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.put_aside.world import SOURCES, World, snapshot

from vramcast.put_aside import FileGuard, recover_left_over, unseen

KILLED = 9
DONE = 0


def in_a_process_that_ends(after: int, act: Callable[[], object]) -> int:
    """Its exit code: it ends before the nth of its acts on files, which is `KILLED`, unless it is done before."""
    child = os.fork()
    if child == 0:
        acts = iter(range(after))

        def count(event: str, _: object) -> None:
            if event == "open" or event.startswith("os."):
                next(acts, None) is None and os._exit(KILLED)

        code = 1
        with suppress(BaseException):
            sys.addaudithook(count)
            act()
            code = DONE
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def harm(files: Path, store: Path) -> None:
    with FileGuard(store).watching():
        (files / "model.pt").write_text("x")
        with (files / "prev.pt").open("ab") as file:
            file.write(b"x")
        (files / "ckpt").rename(files / "old")
        (files / "old" / "a.bin").write_text("x")
        shutil.rmtree(files / "old" / "deep")
        (files / "model.pt").replace(files / "best.pt")


def test_an_end_at_any_moment(tmp_path: Path) -> None:
    for moment in range(1000):
        world = World(tmp_path / str(moment))
        code = in_a_process_that_ends(moment, lambda world=world: harm(world.files, world.store))
        assert world.put_back().not_restored == ()
        assert world.after() == world.before, moment
        if code == DONE:
            break
        assert code == KILLED
    assert code == DONE
    assert moment > 50
    assert world.new() == ["old", "old/a.bin"]


def test_an_end_at_any_moment_of_putting_back(tmp_path: Path) -> None:
    for moment in range(1000):
        world = World(tmp_path / str(moment))
        in_a_process_that_ends(1000, lambda world=world: harm(world.files, world.store))
        code = in_a_process_that_ends(moment, world.put_back)
        report = world.put_back()
        assert world.after() == world.before, moment
        assert world.new() == ["old", "old/a.bin"]
        assert sorted(Path(name).name for name in report.restored) == [
            "a.bin",
            "b.bin",
            "best.pt",
            "model.pt",
            "prev.pt",
        ]
        if code == DONE:
            break
    assert code == DONE
    assert moment > 15


class TestUnseen:
    def test_what_another_program_changes_is_told(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(world.files)
        with FileGuard(world.store, folders=[world.files]).watching():
            Path("model.pt").write_text("x")
            subprocess.run(
                [sys.executable, "-c", "open('ckpt/a.bin', 'w'); import os; os.remove('prev.pt')"], check=True
            )
        report = world.put_back()
        assert sorted(report.changed_unseen) == ["ckpt/a.bin", "prev.pt"]
        assert report.restored == ("model.pt",)
        assert any(line.startswith("2 files changed past Python") for line in report.sentences())

    def test_too_many_files_are_told(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unseen.remember, "__defaults__", (2,))
        with FileGuard(world.store, folders=[world.files]).watching():
            pass
        assert world.put_back().sentences() == ["there are too many files here to tell all that changed past Python"]

    def test_environments_and_hidden_folders_are_passed_over(self, world: World) -> None:
        for name in (".git/index", "env/pyvenv.cfg", "env/lib/x.py", "__pycache__/x.pyc"):
            path = world.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        world.store.mkdir()
        unseen.remember(world.store, [world.files], most=4)
        files, is_complete = json.loads((world.store / unseen.NAME).read_text())
        assert [str(Path(path).relative_to(world.files)) for path in files] == [
            "model.pt",
            "prev.pt",
            "ckpt/a.bin",
            "ckpt/deep/b.bin",
        ]
        assert is_complete


class TestLeftOver:
    def left(self, world: World, root: Path) -> Path:
        """A run's folder, as a watcher that was killed leaves it."""
        folder = root / "run"
        world.store = folder / "put_aside"
        world.store.mkdir(parents=True)
        (folder / "lock").touch()
        world.run("Path('model.pt').write_text('x'); os._exit(0)")
        return folder

    def test_is_put_back_and_removed(self, world: World, tmp_path: Path) -> None:
        folder = self.left(world, tmp_path / "runs")
        (report,) = recover_left_over(tmp_path / "runs")
        assert report.restored == ("model.pt",)
        assert world.after() == world.before
        assert not folder.exists()
        assert recover_left_over(tmp_path / "runs") == []

    @pytest.mark.parametrize("held", ["lock", "put_aside/in_use"])
    def test_is_left_alone_while_its_watcher_or_its_script_lives(self, world: World, tmp_path: Path, held: str) -> None:
        folder = self.left(world, tmp_path / "runs")
        with (folder / held).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            assert recover_left_over(tmp_path / "runs") == []
            assert (world.files / "model.pt").read_text() == "x"
        assert len(recover_left_over(tmp_path / "runs")) == 1

    def test_the_lock_is_held_by_forks(self, world: World, tmp_path: Path) -> None:
        folder = tmp_path / "runs" / "run"
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        script = (
            "import os, sys; from pathlib import Path; from vramcast.put_aside import FileGuard\n"
            "with FileGuard(Path(sys.argv[1])).watching():\n"
            "    Path('model.pt').write_text('x')\n"
            "    if os.fork(): os._exit(0)\n"
            "    print('up', flush=True); sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=world.files, env={**os.environ, "PYTHONPATH": str(SOURCES)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            assert recover_left_over(tmp_path / "runs") == []
            assert process.stdin is not None
            process.stdin.close()
            assert process.stdout.read() == b""  # the fork has ended as well
        assert len(recover_left_over(tmp_path / "runs")) == 1
        assert world.after() == world.before

    def test_folders_of_others_are_not_touched(self, tmp_path: Path) -> None:
        for name, content in (("a/vramcast-journal", "x"), ("b/lock", ""), ("c/lock", ""), ("c/store/model.pt", "x")):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        before = snapshot(tmp_path)
        assert recover_left_over(tmp_path) == []
        assert recover_left_over(tmp_path / "no such folder") == []
        assert snapshot(tmp_path) == before
