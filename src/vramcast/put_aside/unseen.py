"""Files that changed although nobody was heard to change them: by native code, by another program. They are told, not put back."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vramcast.put_aside.journal import Journal
from vramcast.put_aside.names import is_left_alone
from vramcast.put_aside.records import status_of

NAME = "before.json"
MOST_ENTRIES = 20_000
"""Looking at so many takes some tenths of a second."""
_STANDARD_STREAMS = (0, 1, 2)
_OF_AN_ENVIRONMENT = "pyvenv.cfg"

Looks = tuple[int, int, int]
"""Bytes, time of the last change in ns, inode."""


class Unseen(NamedTuple):
    """What a second look finds."""

    changed: tuple[str, ...] = ()
    is_complete: bool = True
    """False where there were too many files to look at all."""


def remember(store: Path, folders: Sequence[Path], most: int = MOST_ENTRIES) -> None:
    """Look at the regular files below some folders, the nearest first; hidden folders and Python environments are left out.

    Args:
        store: where to remember it.
        folders: to look at; none means nothing will be found.
        most: files to look at.
    """
    files: dict[str, Looks] = {}
    streams = set(_open_streams())
    is_complete = True
    for path in _files_below(folders):
        if len(files) == most:
            is_complete = False
            break
        looks = _looks(path)
        if looks is not None and (os.lstat(path).st_dev, looks[2]) not in streams:
            files[path] = looks
    (store / NAME).write_text(json.dumps([files, is_complete]), encoding="utf-8")


def look_again(store: Path, journal: Journal, working_folder: str) -> Unseen:
    """Compare, after everything was put back. Names are relative to the working folder where that is shorter."""
    path = store / NAME
    try:
        files, is_complete = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the process ended before it had looked
        return Unseen()
    heard = {*journal.kept, *journal.touched, *journal.made, *journal.unguarded}
    changed = [path for path, before in files.items() if path not in heard and _looks(path) != tuple(before)]
    return Unseen(tuple(path.removeprefix(f"{working_folder}/") for path in changed), is_complete)


def _files_below(folders: Iterable[Path]) -> Iterable[str]:
    waiting = deque(dict.fromkeys(os.path.realpath(folder) for folder in folders))
    seen: set[str] = set()
    while waiting:
        folder = waiting.popleft()
        if folder in seen or is_left_alone(f"{folder}/"):
            continue
        seen.add(folder)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        if any(entry.name == _OF_AN_ENVIRONMENT for entry in entries):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def _looks(path: str) -> Looks | None:
    try:
        status = status_of(path)
    except OSError:
        return None
    return None if status is None else (status.size, status.modified_ns, status.inode)


def _open_streams() -> Iterable[tuple[int, int]]:
    """What the script prints may go to a file in its folder, which grows."""
    for number in _STANDARD_STREAMS:
        with suppress(OSError):
            status = os.fstat(number)
            yield status.st_dev, status.st_ino
