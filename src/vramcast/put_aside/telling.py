"""From the journal, and what is there when the script has ended, to what it did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vramcast.put_aside.journal import Journal
from vramcast.put_aside.names import is_left_alone
from vramcast.put_aside.records import Kept, Status, status_of
from vramcast.put_aside.report import FileReport


def report_of(journal: Journal) -> FileReport:
    """To be made before anything is put back."""
    keeps_writes = journal.began is not None and journal.began.keeps_writes
    files = [kept for kept in journal.kept.values() if not kept.status.is_folder]
    changed = [kept for kept in files if _is_changed(kept)]
    gone = {kept.path for kept in changed if look(kept.path) is None}
    overwritten = [kept.name for kept in changed if kept.path not in gone]
    if keeps_writes:
        removed = list(_topmost(journal, gone))
    else:
        removed = [kept.name for kept in changed if kept.path in gone]
        removed += [kept.name for kept in _empty_folders(journal, gone)]
        overwritten += [each.name for each in journal.touched.values() if _is_touched(each.path, each.status)]
    return FileReport(
        restored=() if keeps_writes else (*overwritten, *removed),
        overwritten=tuple(overwritten),
        removed=tuple(removed),
        written=tuple(dict.fromkeys(_written(journal))),
        unguarded=tuple(journal.children),
        unguarded_files=tuple(f"{each.name} ({each.reason})" for each in journal.unguarded.values()),
        keeps_writes=keeps_writes,
    )


def look(path: str) -> Status | None:
    """None also for what cannot be looked at."""
    try:
        return status_of(path)
    except OSError:
        return None


def _is_changed(kept: Kept) -> bool:
    """A file that was opened for writing and is as it was, or whose removal failed, is not worth a word."""
    there = look(kept.path)
    if there is None or there.mode != kept.status.mode:
        return True
    if there.is_regular:
        return not there.has_content_of(kept.status)
    return there.identity != kept.status.identity


def _is_touched(path: str, before: Status) -> bool:
    there = look(path)
    return there is not None and (there.mode, there.uid, there.gid, there.modified_ns) != (
        before.mode,
        before.uid,
        before.gid,
        before.modified_ns,
    )


def _topmost(journal: Journal, gone: set[str]) -> Iterator[str]:
    """A folder that went as a whole is one name."""
    told: set[str] = set()
    changed = gone.union(kept.path for kept in _empty_folders(journal, gone))
    for kept in journal.kept.values():
        top = kept.part_of or kept.path
        if kept.path in changed and top not in told:
            told.add(top)
            whole = journal.kept.get(top)
            yield whole.name if whole is not None and look(top) is None else kept.name


def _empty_folders(journal: Journal, gone: set[str]) -> list[Kept]:
    """Folders that went, without a file or folder in them that went and is named already."""
    folders = [kept for kept in journal.kept.values() if kept.status.is_folder and look(kept.path) is None]
    above = {str(parent) for path in gone.union(kept.path for kept in folders) for parent in Path(path).parents}
    return [kept for kept in folders if kept.path not in above]


def second_names(journal: Journal) -> Callable[[Status], bool]:
    """The test whether a file is an original under another name than the one it gets back.

    A number of a file is given anew when the file is gone: that one lies aside, was put back, or looks like the original tells.
    """
    originals = {kept.status.identity: kept for kept in journal.kept.values() if kept.aside}

    def is_second_name(status: Status) -> bool:
        kept = originals.get(status.identity)
        if kept is None:
            return False
        places = (look(kept.aside), look(kept.path))
        return status.has_content_of(kept.status) or any(at and at.identity == status.identity for at in places)

    return is_second_name


def _written(journal: Journal) -> Iterator[str]:
    is_second_name = second_names(journal)

    def is_new(path: str) -> bool:
        status = look(path)
        return status is not None and not (status.is_folder or is_left_alone(path) or is_second_name(status))

    for made in journal.made.values():
        if is_new(made.path):
            yield made.name
    known = {*journal.made, *journal.kept}
    for moved in journal.moved.values():
        for path in _files_below(moved.path):
            if path not in known and is_new(path):
                yield moved.name.rstrip(os.sep) + path.removeprefix(moved.path)


def _files_below(folder: str) -> Iterable[str]:
    status = look(folder)
    if status is None or not status.is_folder:
        return []
    return (f"{inside}/{name}" for inside, _, names in os.walk(folder) for name in names)
