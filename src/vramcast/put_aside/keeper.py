"""What has to be kept before a script does something to files. Each method is told of an act before it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vramcast.put_aside.asides import Asides
from vramcast.put_aside.journal import Journal
from vramcast.put_aside.names import is_left_alone, itself, named, shown, target_of
from vramcast.put_aside.records import Child, Kept, Made, Moved, Record, Status, Touched, Unguarded, status_of


class Keeper:
    """Keeps what was there before the script, once. Names are as the script gave them, with the `dir_fd` they are relative to."""

    def __init__(self, store: Path, journal: Journal, *, left_alone: Sequence[Path] = (), keeps_writes: bool) -> None:
        """Nothing is kept yet.

        Args:
            store: the folder of this run, which is never guarded itself.
            journal: of this run.
            left_alone: other folders that are never guarded.
            keeps_writes: acts are noted, and nothing is put aside.
        """
        own = [os.path.realpath(folder) for folder in (store, *left_alone)]
        self._own = tuple(folder + os.sep for folder in own)
        self._journal = journal
        self._asides = None if keeps_writes else Asides(Path(own[0]), journal)

    def will_write(
        self, name: object, *, truncates: bool = False, creates: bool = True, exclusive: bool = False
    ) -> None:
        """A file is about to be opened for writing, or written by code that opens it unheard."""
        path = self._guarded(name, None, target_of)
        if path is None:
            return
        with self._journal.turn():
            status = status_of(path)
            if status is None:
                if creates:
                    self._note_new(path, shown(name))
                return
            if exclusive or not status.is_regular or not _may_write(path):
                return  # the script will get the error itself
            if not self._journal.is_known(path):
                status = self._keep_file(path, shown(name), status)
            if status.identity in self._journal.originals and self._asides is not None:
                self._part(path, shown(name), status, truncates)

    def will_remove(self, name: object, folder: object = None) -> None:
        """A file or link."""
        path = self._guarded(name, folder, itself)
        if path is None:
            return
        with self._journal.turn():
            status = status_of(path)
            if status is not None and not status.is_folder and not self._journal.is_known(path):
                self._keep_file(path, shown(name), status)

    def will_remove_folder(self, name: object, folder: object = None) -> None:
        """An empty one; another will not go."""
        path = self._guarded(name, folder, itself)
        if path is None:
            return
        with self._journal.turn():
            self._keep_if_empty(path, shown(name))

    def will_remove_tree(self, name: object, folder: object = None) -> None:
        """A folder with all that is in it."""
        path = self._guarded(name, folder, itself)
        if path is None:
            return
        with self._journal.turn():
            status = status_of(path)
            if status is not None and status.is_folder:
                self._keep_tree(path, shown(name), status)

    def will_rename(self, source: object, target: object, source_folder: object, target_folder: object) -> None:
        """A file or folder, perhaps over another."""
        old, new = self._guarded(source, source_folder, itself), self._guarded(target, target_folder, itself)
        with self._journal.turn():
            status = status_of(old or named(source, source_folder) or "")
            if status is None:
                return
            was_there = old is not None and self._was_there(old)
            if new is not None:
                self._keep_target(new, shown(target), status)
            if old is not None and status.is_folder:
                self._keep_tree(old, shown(source), status)
            elif old is not None and not self._journal.is_known(old):
                self._keep_file(old, shown(source), status)
            if new is not None and (status_of(new) is None or self._journal.is_known(new)):  # or it will fail
                if status.is_folder:
                    self._journal.add(Moved(new, shown(target), was_there))
                self._note_new(new, shown(target))

    def will_link(self, source: object, target: object, source_folder: object, target_folder: object) -> None:
        """A file gets a second name: what is written under it changes the file as well."""
        new = self._guarded(target, target_folder, itself)
        # Of a symbolic link, systems differ in which of the two is meant.
        old = [self._guarded(source, source_folder, meant) for meant in (itself, target_of)]
        with self._journal.turn():
            if new is None or status_of(new) is not None:
                return
            for path in filter(None, dict.fromkeys(old)):
                status = status_of(path)
                if status is not None and not status.is_folder and not self._journal.is_known(path):
                    self._keep_file(path, shown(source), status)
            self._note_new(new, shown(target))

    def will_make(self, name: object, folder: object = None) -> None:
        """A folder or a symbolic link."""
        path = self._guarded(name, folder, itself)
        if path is None:
            return
        with self._journal.turn():
            if status_of(path) is None:
                self._note_new(path, shown(name))

    def will_touch(self, name: object, folder: object = None) -> None:
        """Permissions, owner or times."""
        path = self._guarded(name, folder, target_of)
        if path is None:
            return
        with self._journal.turn():
            status = status_of(path)
            if status is not None and path not in self._journal.touched and not self._journal.is_known(path):
                self._journal.add(Touched(path, shown(name), status))

    def will_start(self, command: str) -> None:
        """Another program."""
        with self._journal.turn():
            if command not in self._journal.children:
                self._journal.add(Child(command))

    def cannot_guard(self, name: object, reason: str) -> None:
        """The file that is meant goes unguarded, if there is one."""
        path = self._guarded(name, None, target_of)
        if path is not None and status_of(path) is not None:
            with self._journal.turn():
                self._note_unguarded(path, shown(name), reason)

    # -- inside a turn

    def _guarded(self, name: object, folder: object, meant: Callable[[str], str]) -> str | None:
        path = named(name, folder)
        if path is None or is_left_alone(path):
            return None
        path = meant(path)
        is_own = (path + os.sep).startswith(self._own)
        return None if is_own or is_left_alone(path) else path

    def _keep_file(self, path: str, name: str, status: Status) -> Status:
        record = self._kept_file(path, name, status)
        self._journal.add(record)
        return record.status if isinstance(record, Kept) else status

    def _kept_file(self, path: str, name: str, status: Status, part_of: str = "") -> Kept | Unguarded:
        if self._asides is None:
            return Kept(path, name, status, part_of=part_of)
        try:
            aside = self._asides.keep(path, status)
        except OSError as error:
            return Unguarded(path, name, error.strerror or str(error))
        linked = status_of(path) or status  # overlay filesystems may give a file another inode when it is linked
        return Kept(path, name, replace(status, device=linked.device, inode=linked.inode), aside, part_of)

    def _keep_tree(self, path: str, name: str, status: Status) -> None:
        """The folder's line comes last: it says that all in it is kept."""
        if not self._journal.is_known(path):
            self._journal.add(*self._kept_tree(path, name, status, part_of=""))

    def _kept_tree(self, path: str, name: str, status: Status, part_of: str) -> Iterable[Record]:
        top = part_of or path
        try:
            with os.scandir(path) as found:
                entries = sorted(entry.name for entry in found)
        except OSError as error:
            return [Unguarded(path, name, error.strerror or str(error))]
        records: list[Record] = []
        for entry in entries:
            inside, inside_name = f"{path.rstrip(os.sep)}/{entry}", f"{name.rstrip(os.sep)}/{entry}"
            inner = status_of(inside)
            if inner is None or self._journal.is_known(inside):
                continue
            if inner.is_folder:
                records += self._kept_tree(inside, inside_name, inner, top)
            else:
                records.append(self._kept_file(inside, inside_name, inner, top))
        return [*records, Kept(path, name, status, part_of=part_of)]

    def _keep_target(self, path: str, name: str, source: Status) -> None:
        """What a renamed file or folder takes the place of."""
        status = status_of(path)
        if status is None:
            return
        if status.is_folder and source.is_folder:
            self._keep_if_empty(path, name)
        elif not status.is_folder and not source.is_folder and not self._journal.is_known(path):
            self._keep_file(path, name, status)

    def _keep_if_empty(self, path: str, name: str) -> None:
        status = status_of(path)
        if status is None or not status.is_folder or self._journal.is_known(path):
            return
        with os.scandir(path) as found:
            if next(found, None) is None:
                self._journal.add(Kept(path, name, status))

    def _part(self, path: str, name: str, status: Status, truncates: bool) -> None:
        assert self._asides is not None
        same = (kept.aside for kept in self._journal.kept.values() if kept.status.identity == status.identity)
        try:
            self._asides.part(path, status, same, empty=truncates)
        except OSError as error:
            self._note_unguarded(path, name, error.strerror or str(error))

    def _note_new(self, path: str, name: str) -> None:
        if path not in self._journal.kept and path not in self._journal.made:
            self._journal.add(Made(path, name))

    def _note_unguarded(self, path: str, name: str, reason: str) -> None:
        if path not in self._journal.unguarded:
            self._journal.add(Unguarded(path, name, reason))

    def _was_there(self, path: str) -> bool:
        """Whether what is at a path was there before the script, under this name or in a folder that had another."""
        moved = self._journal.moved
        if path in self._journal.kept or not self._journal.is_known(path):
            return True
        return any(str(each) in moved and moved[str(each)].was_there for each in (Path(path), *Path(path).parents))


def _may_write(path: str) -> bool:
    if os.access in os.supports_effective_ids:
        return os.access(path, os.W_OK, effective_ids=True)
    return os.access(path, os.W_OK)
