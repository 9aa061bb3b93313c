"""Where originals lie while a script runs, and how they get there without a copy where that can be.

A second name (a hard link) keeps a file through removal and renaming. What is about to be changed in place gets its own file under the
script's name: a copy, or an empty one where the script truncates it anyway. The original keeps inode, permissions and times.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vramcast.put_aside.journal import Journal
from vramcast.put_aside.records import SideFolder, Status, status_of

ORIGINALS = "originals"
UNFINISHED = ".unfinished"
_SIDE_FOLDER = ".vramcast-aside-"
_COPIED_AT_ONCE = 2**30


class Asides:
    """The places for originals of one run."""

    def __init__(self, store: Path, journal: Journal) -> None:
        """Nothing is made yet.

        Args:
            store: of the run.
            journal: is told of folders that are made elsewhere.
        """
        self._store, self._journal = store, journal

    def keep(self, path: str, status: Status) -> str:
        """Give a file that is no folder a second name, or copy it where it can have none; returns where it lies.

        Raises:
            OSError: neither can be done.
        """
        folders = dict.fromkeys((self._place(path), self._store / ORIGINALS))
        for put in (_link, _copy):
            for folder in folders:
                aside = folder / _name_for(path)
                try:
                    put(path, status, aside)
                except OSError as error:
                    failure = error
                else:
                    return str(aside)
        raise failure

    def part(self, path: str, status: Status, asides: Iterable[str], *, empty: bool) -> None:
        """Make the file under the script's name another one than the original that lies aside.

        Args:
            path: the script's name.
            status: of the file that is there.
            asides: where originals lie that may be this file.
            empty: the script truncates it.

        Raises:
            OSError: neither a file of its own for the script, nor one of its own for the original can be made.
        """
        shared = [aside for aside in asides if _is_file(aside, status)]
        if not shared:  # a copy lies there
            return
        own = self._place(path) / f"{_name_for(path)}.{os.getpid()}.{threading.get_ident()}{UNFINISHED}"
        try:
            if empty:
                _make_empty(status, own)
            else:
                _copy(path, status, own)
            own.replace(path)
        except OSError:  # the folder cannot be changed, the file in it can
            own.unlink(missing_ok=True)
            for aside in shared:
                _copy(path, status, Path(aside))

    def _place(self, path: str) -> Path:
        """A folder on the filesystem of a path's folder."""
        above = Path(path).parent
        device = os.lstat(above).st_dev
        if device == os.lstat(self._store).st_dev:
            return self._store / ORIGINALS
        known = self._journal.side_folders.get(device)
        if known is not None:
            return Path(known.path)
        side = _highest_own_folder(above, device) / f"{_SIDE_FOLDER}{self._identifier()}"
        self._journal.add(SideFolder(str(side), device))
        with suppress(OSError):  # then nothing can be linked there, and copies go to the store
            side.mkdir(mode=0o700, exist_ok=True)
        return side

    def _identifier(self) -> str:
        return hashlib.sha256(os.fsencode(self._store)).hexdigest()[:12]


def _name_for(path: str) -> str:
    """The same in every fork, so that a path is put aside once."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _highest_own_folder(folder: Path, device: int) -> Path:
    """Out of the way of what the script lists and removes, but on the same filesystem and in nobody else's folder."""
    highest = folder
    for above in folder.parents:
        status = os.lstat(above)
        if status.st_dev != device or status.st_uid != os.geteuid() or not os.access(above, os.W_OK):
            break
        if above.parent == above:
            break
        highest = above
    return highest


def _is_file(aside: str, status: Status) -> bool:
    there = status_of(aside)
    return there is not None and there.identity == status.identity


def _link(path: str, status: Status, aside: Path) -> None:
    try:
        os.link(path, aside, follow_symlinks=False)
    except FileExistsError:  # made by a process that was killed before it could say so
        if _is_file(str(aside), status):
            return
        aside.unlink()
        os.link(path, aside, follow_symlinks=False)


def _make_empty(status: Status, file: Path) -> None:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    _dress(status, file)


def _copy(path: str, status: Status, target: Path) -> None:
    """Complete or not at all."""
    part = target.with_name(f"{target.name}.{os.getpid()}{UNFINISHED}")
    part.unlink(missing_ok=True)
    try:
        if stat.S_ISLNK(status.mode):
            part.symlink_to(os.readlink(path))  # noqa: PTH115
        elif status.is_regular:
            copy_content(path, status.size, part)
            shutil.copystat(path, part)
            _dress(status, part)
        else:
            raise OSError(errno.ENOTSUP, "no file that could be copied", path)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _dress(status: Status, file: Path) -> None:
    file.chmod(stat.S_IMODE(status.mode))
    with suppress(PermissionError):  # another's file; only root gives files away
        if (status.uid, status.gid) != (os.geteuid(), os.getegid()):
            os.chown(file, status.uid, status.gid)
            file.chmod(stat.S_IMODE(status.mode))  # a change of owner drops the setuid bits


def copy_content(path: str, size: int, target: Path) -> None:
    """Copy a regular file's bytes; where the filesystem can share them, nothing is moved.

    Args:
        path: to read.
        size: of it, in bytes.
        target: a file that is not there yet.

    Raises:
        OSError: no room for it, which is seen before the disk is full.
    """
    filesystem = os.statvfs(target.parent)
    if size > filesystem.f_bavail * filesystem.f_frsize:
        raise OSError(errno.ENOSPC, "no room for a copy", path)
    try:
        with Path(path).open("rb") as source, target.open("xb") as copy:
            while os.copy_file_range(source.fileno(), copy.fileno(), _COPIED_AT_ONCE):
                pass
    except (OSError, AttributeError):  # not on this system, or not between these files
        target.unlink(missing_ok=True)
        shutil.copyfile(path, target)
    if target.stat().st_size < size:  # some special files end at once for copy_file_range
        shutil.copyfile(path, target)
