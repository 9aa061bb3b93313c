"""In the process that waited for the script's: everything is made as it was, from the journal alone.

Each step can be done twice, so that who is killed in the middle of it is finished by the next.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vramcast.put_aside import unseen
from vramcast.put_aside.asides import ORIGINALS, UNFINISHED, copy_content
from vramcast.put_aside.journal import NAME, Journal
from vramcast.put_aside.records import Kept, Status, status_of
from vramcast.put_aside.report import FileReport
from vramcast.put_aside.telling import look, report_of, second_names
from vramcast.whole_file import replacing

REPORT = "report.json"
_ALL = 0o700


def put_back(store: Path) -> FileReport:
    """Make everything as it was before the script; what is new stays.

    The script's process must have ended. The store may be removed afterwards unless something is `not_restored`.

    Args:
        store: what the `FileGuard` of the script's process was given. Where it never began to watch, there is nothing to do.

    Raises:
        OSError: the store cannot be read or written.
    """
    journal = Journal(store / NAME)
    try:
        journal.read()
    except FileNotFoundError:
        return FileReport()
    report = _told_before(store)
    if report is None:
        report = report_of(journal)
        with replacing(store / REPORT) as unfinished:  # now, for who is to finish this cannot see it any more
            unfinished.write_text(json.dumps(asdict(report)), encoding="utf-8")
    failed = {} if report.keeps_writes else _restored(store, journal)
    found = unseen.look_again(store, journal, journal.began.folder if journal.began else "")
    report = report.without({journal.kept[path].name for path in failed})
    return replace(
        report, not_restored=tuple(failed.values()), changed_unseen=found.changed, all_looked_at=found.is_complete
    )


def _told_before(store: Path) -> FileReport | None:
    try:
        fields = json.loads((store / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    told: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return FileReport(**told)


def _restored(store: Path, journal: Journal) -> dict[str, str]:
    """Put everything back; returns what could not be, in words, by path."""
    failures: dict[str, str] = {}
    folders = sorted((kept for kept in journal.kept.values() if kept.status.is_folder), key=_depth)
    files = [kept for kept in reversed(journal.kept.values()) if kept.aside]
    touched = [each for each in journal.touched.values() if each.status.is_folder]
    _take_away_second_names(journal)
    for each in touched:
        with suppress(OSError):
            _open_up(each.path, each.status)
    for kept in folders:
        try:
            _make_folder(kept)
        except OSError as error:
            failures[kept.path] = f"{kept.name} ({_reason(error)})"
    for kept in files:
        # The first to be kept comes last: where two paths lead to one file, what was kept later was the script's.
        try:
            _put_file_back(kept)
        except OSError as error:
            failures[kept.path] = f"{kept.name} ({_reason(error)}; the original is {kept.aside})"
    first = {path: kept.status for path, kept in journal.kept.items()} | {
        path: each.status for path, each in journal.touched.items()
    }
    for path, status in sorted(first.items(), key=lambda item: item[0].count(os.sep), reverse=True):
        with suppress(OSError):  # another's file: its owner alone may
            _settle(path, status)
    _clean(store, journal, {journal.kept[path].aside for path in failures})
    return failures


def _depth(kept: Kept) -> int:
    return kept.path.count(os.sep)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _take_away_second_names(journal: Journal) -> None:
    """What the script renamed or linked gets only its old name back: under two names one would change with the other."""
    is_second_name = second_names(journal)
    for made in journal.made.values():
        status = look(made.path)
        if status is not None and is_second_name(status):
            with suppress(OSError):
                Path(made.path).unlink()
    for moved in journal.moved.values():
        for folder, names in _tree(moved.path):
            for name in names:
                inside = f"{folder}/{name}"
                status = look(inside)
                if inside not in journal.kept and status is not None and is_second_name(status):
                    with suppress(OSError):
                        Path(inside).unlink()
            if moved.was_there and folder not in journal.kept:
                with suppress(OSError):  # the script's own files are in it
                    Path(folder).rmdir()


def _tree(path: str) -> Iterator[tuple[str, list[str]]]:
    status = look(path)
    if status is not None and status.is_folder:
        for folder, _, names in os.walk(path, topdown=False):
            yield folder, names


def _open_up(path: str, status: Status) -> None:
    """Enough permission to put something into a folder; what it had comes back at the end."""
    if status.is_folder and not os.access(path, os.W_OK | os.X_OK):
        Path(path).chmod(stat.S_IMODE(status.mode) | _ALL)


def _make_folder(kept: Kept) -> None:
    path = Path(kept.path)
    there = status_of(kept.path)
    if there is not None and not there.is_folder:
        path.unlink()
    if there is None or not there.is_folder:
        path.mkdir(mode=_ALL, parents=True)
    _open_up(kept.path, kept.status)


def _put_file_back(kept: Kept) -> None:
    aside, path = Path(kept.aside), Path(kept.path)
    original = status_of(kept.aside)
    if original is None:  # was put back already
        return
    there = status_of(kept.path)
    if there is not None and there.identity == original.identity:  # renaming does nothing between two names of one file
        aside.unlink()
        return
    if there is not None and there.is_folder:
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.replace(path)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _copy_back(aside, original, path)
        else:
            _write_back(aside, original, path)
        aside.unlink()


def _copy_back(aside: Path, original: Status, path: Path) -> None:
    """From another filesystem."""
    try:
        with replacing(path) as unfinished:
            if stat.S_ISLNK(original.mode):
                unfinished.symlink_to(aside.readlink())
            else:
                copy_content(str(aside), original.size, unfinished)
                shutil.copystat(aside, unfinished)
    except PermissionError:
        _write_back(aside, original, path)


def _write_back(aside: Path, original: Status, path: Path) -> None:
    """Where the folder may not be changed, or the file is a filesystem's root: its content alone."""
    there = status_of(str(path))
    if there is None or not there.is_regular or not original.is_regular:
        raise PermissionError(errno.EACCES, "the folder cannot be changed", str(path))
    if not os.access(path, os.W_OK):
        path.chmod(stat.S_IMODE(there.mode) | stat.S_IWUSR)
    with aside.open("rb") as source, path.open("r+b") as target:
        shutil.copyfileobj(source, target)
        target.truncate()


def _settle(path: str, status: Status) -> None:
    """Permissions, owner and times as they were; nothing is done where they are."""
    there = status_of(path)
    if there is None or stat.S_IFMT(there.mode) != stat.S_IFMT(status.mode):
        return
    is_link = stat.S_ISLNK(status.mode)
    if (there.uid, there.gid) != (status.uid, status.gid):
        with suppress(PermissionError):
            os.chown(path, status.uid, status.gid, follow_symlinks=False)
        there = replace(there, mode=-1)
    if there.mode != status.mode and not is_link:
        Path(path).chmod(stat.S_IMODE(status.mode))
    if there.modified_ns != status.modified_ns:
        os.utime(path, ns=(status.accessed_ns, status.modified_ns), follow_symlinks=False)


def _clean(store: Path, journal: Journal, needed: set[str]) -> None:
    """The folders for originals, but for those that could not be put back."""
    for folder in (store / ORIGINALS, *(Path(side.path) for side in journal.side_folders.values())):
        with suppress(OSError):
            for left in list(folder.iterdir()):
                if str(left) not in needed or left.name.endswith(UNFINISHED):
                    left.unlink()
            folder.rmdir()
