"""Finishes for runs whose watcher was killed before it could put their files back."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vramcast.put_aside.guard import IN_USE
from vramcast.put_aside.journal import NAME
from vramcast.put_aside.records import status_of
from vramcast.put_aside.report import FileReport
from vramcast.put_aside.restore import put_back

LOCK = "lock"
"""A file in a run's folder that its watcher holds locked (`fcntl.flock`, exclusive) as long as it lives."""


def recover_left_over(root: Path) -> list[FileReport]:
    """Put back what runs left over, and remove their folders.

    A run is left alone while its watcher, its script or a fork of the script lives, and where it never began to watch files.

    Args:
        root: has a folder for each run, with `LOCK` in it; its store is that folder, or one in it. Other folders are not touched.

    Raises:
        OSError: a store cannot be read or written.
    """
    reports = []
    for folder in _folders(root):
        for store in (folder, *_folders(folder)):
            if (folder / LOCK).is_file() and (store / NAME).is_file():
                with _free(folder / LOCK) as nobody_watches, _free(store / IN_USE) as nobody_writes:
                    if nobody_watches and nobody_writes and (store / NAME).is_file():
                        reports.append(put_back(store))
                        if not reports[-1].not_restored:
                            shutil.rmtree(folder, ignore_errors=True)
                break
    return reports


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _is_own_folder(path))
    except OSError:  # gone meanwhile, or not to be read
        return []


def _is_own_folder(path: Path) -> bool:
    """In a folder for everybody, another user may have laid a trap."""
    status = status_of(str(path))
    return status is not None and status.is_folder and status.uid == os.geteuid()


@contextmanager
def _free(lock: Path) -> Iterator[bool]:
    """Whether nobody holds a lock, and hold it meanwhile; where there is no such file, nobody does."""
    try:
        file = lock.open("r+")
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
