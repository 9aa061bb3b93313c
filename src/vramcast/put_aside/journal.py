"""The journal: an append-only file that a script's process and its forks share, and what they have read of it.

A line stands in it before the harm is done, so that whoever reads it after the process was killed knows all that may have been done.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vramcast.put_aside.records import (
    Began,
    Child,
    Kept,
    Made,
    Moved,
    Record,
    SideFolder,
    Touched,
    Unguarded,
    from_line,
    to_line,
)

NAME = "vramcast-journal"


class Journal:
    """What is known of a run's files; by path, the first word of each counts."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or made yet."""
        self.path = path
        self.began: Began | None = None
        self.kept: dict[str, Kept] = {}
        self.made: dict[str, Made] = {}
        self.moved: dict[str, Moved] = {}
        self.touched: dict[str, Touched] = {}
        self.side_folders: dict[int, SideFolder] = {}
        """By device."""
        self.unguarded: dict[str, Unguarded] = {}
        self.children: dict[str, Child] = {}
        self.originals: set[tuple[int, int]] = set()
        """Identities of the files put aside: another name of one must not be written to as it is."""
        self._read = 0
        self._lock = threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One process and one thread at a time; inside, everything that the others wrote has been read.

        Raises:
            OSError: the journal is gone.
        """
        with self._lock:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND)  # each time anew: daemons close what they do not know
            try:
                with suppress(OSError):  # some network filesystems have no locks
                    fcntl.lockf(file, fcntl.LOCK_EX)
                self._catch_up(file)
                yield
            finally:
                os.close(file)

    def forget_threads(self) -> None:
        """In a fork: a thread that held the lock is not there."""
        self._lock = threading.RLock()

    def add(self, *records: Record) -> None:
        """Write lines, at once. A new journal begins with its first.

        Raises:
            OSError: the disk is full.
        """
        lines = b"".join(map(to_line, records))
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            while lines:
                lines = lines[os.write(file, lines) :]
        finally:
            os.close(file)
        for record in records:
            self._learn(record)

    def read(self) -> None:
        """Read what was written since.

        Raises:
            OSError: there is no journal.
        """
        file = os.open(self.path, os.O_RDONLY)
        try:
            self._catch_up(file)
        finally:
            os.close(file)

    def is_known(self, path: str) -> bool:
        """Whether nothing can be kept any more: the path, or a folder it lies in, was kept already or is the script's own.

        What could not be kept once is changed by now.
        """
        if path in self.unguarded:
            return True
        while path not in self.kept and path not in self.made:
            above = os.path.dirname(path)  # noqa: PTH120, a string's way up is ten times as quick as a Path's
            if above == path:
                return False
            path = above
        return True

    def _catch_up(self, file: int) -> None:
        size = os.fstat(file).st_size
        while self._read < size:
            new = os.pread(file, size - self._read, self._read)
            if not new:
                return
            whole = new.rfind(b"\n") + 1
            for line in new[:whole].splitlines():
                record = from_line(line) if line else None
                if record is not None:
                    self._learn(record)
            self._read += whole
            if not whole:
                return

    def _learn(self, record: Record) -> None:
        match record:
            case Began():
                self.began = record
            case Kept():
                self.kept.setdefault(record.path, record)
                if record.aside:
                    self.originals.add(record.status.identity)
            case Made():
                self.made.setdefault(record.path, record)
            case Moved():
                before = self.moved.get(record.path)
                self.moved[record.path] = record if before is None or record.was_there else before
            case Touched():
                self.touched.setdefault(record.path, record)
            case SideFolder():
                self.side_folders.setdefault(record.device, record)
            case Unguarded():
                self.unguarded.setdefault(record.path, record)
            case Child():
                self.children.setdefault(record.command, record)
