"""Random acts on a small tree: the script sees what it would see without a guard, and afterwards all is as it was."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.put_aside.world import lay, snapshot

from vramcast.put_aside import FileGuard, put_back

NAMES = (
    "model.pt",
    "prev.pt",
    "best.pt",
    "new",
    "ckpt",
    "ckpt/a.bin",
    "ckpt/deep",
    "ckpt/deep/b.bin",
    "empty",
    "empty/x",
)
names = st.sampled_from(NAMES)
Act = tuple[str, str, str]


def write(path: Path, _: Path) -> None:
    path.write_bytes(b"written")


def append(path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def change(path: Path, _: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"CHANGED")


def symlink(path: Path, target: Path) -> None:
    target.symlink_to(path.name)


ACTS: dict[str, Callable[[Path, Path], object]] = {
    "write": write,
    "append": append,
    "change": change,
    "truncate": lambda path, _: os.truncate(path, 2),
    "rename": lambda path, target: path.rename(target),
    "replace": lambda path, target: path.replace(target),
    "move": lambda path, target: shutil.move(path, target),
    "copy": lambda path, target: shutil.copyfile(path, target),
    "remove": lambda path, _: path.unlink(),
    "remove folder": lambda path, _: path.rmdir(),
    "remove tree": lambda path, _: shutil.rmtree(path),
    "make folder": lambda path, _: path.mkdir(),
    "symlink": symlink,
    "link": lambda path, target: os.link(path, target),
    "permissions": lambda path, _: path.chmod(0o700),
    "times": lambda path, _: os.utime(path, (1, 1)),
}
without_links = st.sampled_from([name for name in ACTS if name != "link"])


def do(acts: list[Act], folder: Path) -> list[str]:
    """Returns the errors, without the folder's name."""
    errors = []
    for name, path, target in acts:
        try:
            ACTS[name](folder / path, folder / target)
        except (OSError, shutil.Error) as error:
            errors.append(f"{name} {path} {type(error).__name__}")
    return errors


def do_under_guard(acts: list[Act], folder: Path, store: Path) -> list[str]:
    with FileGuard(store, folders=[folder]).watching():
        return do(acts, folder)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(ACTS)), names, names), min_size=1, max_size=8))
def test_all_is_as_it_was(acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as room:
        folder, store = Path(room, "files"), Path(room, "store")
        lay(folder)
        before = snapshot(folder)
        inodes = {(folder / name).lstat().st_ino for name in before if not (folder / name).is_dir()}
        do_under_guard(acts, folder, store)
        for _ in range(2):
            report = put_back(store)
            now = snapshot(folder)
            assert {name: now.get(name) for name in before} == before
            assert not (report.not_restored or report.unguarded_files or report.changed_unseen)
        new = [folder / name for name in now.keys() - before.keys()]
        assert not {path.lstat().st_ino for path in new if not path.is_dir()} & inodes
        assert not (store / "originals").exists()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(without_links, names, names), min_size=1, max_size=8))
def test_the_script_sees_what_it_would_see(acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as room:
        free, folder = Path(room, "free"), Path(room, "files")
        lay(free)
        lay(folder)
        assert do_under_guard(acts, folder, Path(room, "store")) == do(acts, free)
        seen, expected = (
            {name: (each.mode, each.content) for name, each in snapshot(tree).items()} for tree in (folder, free)
        )
        assert seen == expected
        with suppress(OSError):
            put_back(Path(room, "store"))
