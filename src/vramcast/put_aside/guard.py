"""In the script's process: hears of every act on files before it is done."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from vramcast.put_aside import unseen
from vramcast.put_aside.asides import ORIGINALS
from vramcast.put_aside.events import EVENTS, PROGRAM_EVENTS, command_name, is_writing, tell_keeper
from vramcast.put_aside.journal import NAME, Journal
from vramcast.put_aside.keeper import Keeper
from vramcast.put_aside.records import Began

IN_USE = "in_use"
"""A file in the store that is locked while the script or a fork of it lives."""
_WATCHING: list[FileGuard] = []
_THREAD = threading.local()


@cache
def _listen() -> None:
    """One hook for the whole process, because none can be taken away; forks inherit it."""
    sys.addaudithook(_hear)
    os.register_at_fork(after_in_child=_after_fork)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and _WATCHING and (event != "open" or is_writing(arguments[2])):
        for guard in list(_WATCHING):
            guard.hear(event, arguments)


def _after_fork() -> None:
    for guard in _WATCHING:
        guard.journal.forget_threads()


class FileGuard:
    """Puts aside what was there before the script and is about to be harmed, while `watching`.

    The script is never stopped by it: what cannot be put aside is noted, and told by `put_back`.
    """

    def __init__(
        self, store: Path, *, folders: Sequence[Path] = (), left_alone: Sequence[Path] = (), keep_writes: bool = False
    ) -> None:
        """Nothing is made or heard yet.

        Args:
            store: a folder for this run alone, that the process which waits for this one will give to `put_back`.
            folders: whose files are looked at before and after, for changes that are not heard of (`unseen`).
            left_alone: folders of the program that runs the script; the store is one of them.
            keep_writes: acts are noted, and their effects stay.
        """
        self._store = Path(os.path.realpath(store))
        self._folders = tuple(folders)
        self._keep_writes = keep_writes
        self.journal = Journal(self._store / NAME)
        self._keeper = Keeper(self._store, self.journal, left_alone=left_alone, keeps_writes=keep_writes)

    @contextmanager
    def watching(self) -> Iterator[FileGuard]:
        """Guard files inside the block, in this process and its forks.

        Raises:
            OSError: the store cannot be written to.
        """
        (self._store / ORIGINALS).mkdir(parents=True, exist_ok=True)
        self.journal.add(Began(self._keep_writes, str(Path.cwd())))
        unseen.remember(self._store, self._folders)
        with _locked(self._store / IN_USE), ExitStack() as after:
            _listen()
            after.enter_context(_spawned_processes(self._heed_command))
            _WATCHING.append(self)
            try:
                yield self
            finally:
                _WATCHING.remove(self)

    def about_to_write(self, path: Any, *, truncates: bool = True) -> None:
        """For code that opens files where no event is raised, such as a writer in C++; to be called before it.

        Args:
            path: str, bytes or path; anything else is no file that has a name.
            truncates: the file is written from its start, so that the script needs nothing of what is in it.
        """
        if self in _WATCHING and isinstance(path, (str, bytes, os.PathLike)):
            self._carefully(path, lambda: self._keeper.will_write(path, truncates=truncates))

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """What this thread does inside is not the script's, but the program's that runs it, such as writing what it was asked for."""
        before = getattr(_THREAD, "busy", False)
        _THREAD.busy = True
        try:
            yield
        finally:
            _THREAD.busy = before

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One of `EVENTS`."""
        name = None if event in PROGRAM_EVENTS else arguments[0]
        self._carefully(name, lambda: tell_keeper(self._keeper, event, arguments))

    def _heed_command(self, words: Sequence[Any]) -> None:
        command = command_name([os.fsdecode(word) for word in words])
        self._carefully(None, lambda: self._keeper.will_start(f"{command} (multiprocessing)"))

    def _carefully(self, name: object, act: Callable[[], None]) -> None:
        """What is done here is not heard, and what goes wrong here must not stop the script."""
        if getattr(_THREAD, "busy", False):
            return
        with self.unheard():
            try:
                act()
            except Exception as error:
                with suppress(Exception):  # of a path that cannot be looked at: the script will get the error itself
                    self._keeper.cannot_guard(name, f"{type(error).__name__}: {error}")


class PassiveWatch(FileGuard):
    """Notes what a script does to files, and lets it: `--keep-writes`."""

    def __init__(self, store: Path, *, folders: Sequence[Path] = (), left_alone: Sequence[Path] = ()) -> None:
        """See `FileGuard`."""
        super().__init__(store, folders=folders, left_alone=left_alone, keep_writes=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Shared with forks, which inherit the open file, and given up when the last of them has ended."""
    with path.open("w") as file:
        with suppress(OSError):  # some network filesystems have no locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def _spawned_processes(heed: Callable[[Sequence[Any]], None]) -> Iterator[None]:
    """`multiprocessing` starts a new Python without an event, for its method "spawn" and for its helpers."""
    from multiprocessing import util

    start: Any = util.spawnv_passfds

    def heard_start(path: Any, args: Sequence[Any], passfds: Any) -> Any:
        if not any("resource_tracker" in os.fsdecode(word) for word in args):  # it writes nothing
            heed(args)
        return start(path, args, passfds)

    util.spawnv_passfds = heard_start
    try:
        yield
    finally:
        util.spawnv_passfds = start
