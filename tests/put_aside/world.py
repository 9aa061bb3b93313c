"""A folder with files, a child process that harms them under guard, and what is there before and after."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import vramcast
from vramcast.put_aside import FileReport, put_back

SOURCES = Path(vramcast.__file__).parents[1]
A_DAY_AGO_NS = 1_764_000_000_123_456_789
_GUARDED = """
import json, os, sys
from pathlib import Path
from vramcast.put_aside import FileGuard
{imports}
for files, store, script, keep_writes in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.chdir(files)
        with FileGuard(Path(store), folders=[Path(files)], keep_writes=keep_writes).watching():
            exec(script)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        print(script, file=sys.stderr)
        sys.exit(code if code > 0 else 128 - code)
"""


class Seen(NamedTuple):
    """Of a path: what a user could notice."""

    mode: int
    modified_ns: int | None
    """None for a folder, whose time changes with what is made in it."""
    content: bytes | str | None


def snapshot(folder: Path) -> dict[str, Seen]:
    """All paths below a folder."""
    return {str(path.relative_to(folder)): seen(path) for path in sorted(folder.rglob("*"))}


def seen(path: Path) -> Seen:
    status = path.lstat()
    if path.is_symlink():
        return Seen(status.st_mode, status.st_mtime_ns, str(path.readlink()))
    if path.is_dir():
        return Seen(status.st_mode, None, None)
    return Seen(status.st_mode, status.st_mtime_ns, path.read_bytes())


def lay(folder: Path) -> None:
    """Files as a user has them: another mode than usual, and old."""
    for name in ("model.pt", "prev.pt", "ckpt/a.bin", "ckpt/deep/b.bin"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"precious {name}".encode() * 100)
        path.chmod(0o640)
        os.utime(path, ns=(A_DAY_AGO_NS, A_DAY_AGO_NS))
    (folder / "empty").mkdir(mode=0o750)
    (folder / "best.pt").symlink_to("model.pt")


IMPORTS = "import os, shutil"


class World:
    """One run."""

    def __init__(self, folder: Path) -> None:
        self.files, self.store = folder / "files", folder / "store"
        self.files.mkdir(parents=True)
        lay(self.files)
        self.look()

    def look(self) -> None:
        """Take what is there now for what was there before."""
        self.before = snapshot(self.files)

    def run(self, script: str, imports: str = IMPORTS, *, keep_writes: bool = False, code: int = 0) -> None:
        """Run lines under guard in a process of their own, which must end with this exit code; 128 and more for a signal."""
        run_all({self: script}, imports, keep_writes=keep_writes, code=code)

    def add_database(self) -> None:
        """One more file that was there before."""
        with closing(sqlite3.connect(self.files / "db")) as database:
            database.execute("create table t (x)")
            database.commit()
        self.look()

    def put_back(self) -> FileReport:
        """In this process, as the one that watches a run does."""
        return put_back(self.store)

    def after(self) -> dict[str, Seen]:
        """What was there before, as it is now."""
        now = snapshot(self.files)
        return {name: now[name] for name in self.before if name in now}

    def new(self) -> list[str]:
        """What was not there before."""
        return sorted(set(snapshot(self.files)) - set(self.before))


def run_all(scripts: Mapping[World, str], imports: str = IMPORTS, *, keep_writes: bool = False, code: int = 0) -> None:
    """Run the script of each world in a process of its own; Python and what they import is started once for all."""
    work = [(str(world.files), str(world.store), script, keep_writes) for world, script in scripts.items()]
    done = subprocess.run(
        [sys.executable, "-c", _GUARDED.format(imports=imports), json.dumps(work)],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
