"""Which files a script writes, overwrites and removes: its own side effects are real, so they are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_WRITING = frozenset("wax+")
_NOT_FILES = ("/dev/", "/proc/", "/sys/")
_MOST_NAMES = 3
_NO_FOLDER = -1
"""`dir_fd` of a path that stands for itself."""


_EVENTS = frozenset(("open", "os.rename", "os.remove", "shutil.rmtree"))
_LISTENING: list[TouchedFiles] = []


@cache
def _listen() -> None:
    """One hook for the whole process, because none can be taken away."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event in _EVENTS and _LISTENING:  # Python tells of every `id` as well
        for files in list(_LISTENING):
            with suppress(OSError):  # of a path that cannot be looked at: the script will get the error itself
                files.note(event, arguments)


class TouchedFiles:
    """What is done to files inside `noted`.

    Each is kept under its absolute path, with the name the script gave it.
    """

    def __init__(self) -> None:
        self._written: dict[Path, str] = {}
        self._overwritten: dict[Path, str] = {}
        """Those of the written ones that were there before the script."""
        self._removed: dict[Path, str] = {}
        """Files, and folders with files, that were there before the script."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what the block does."""
        _listen()
        _LISTENING.append(self)
        try:
            yield
        finally:
            _LISTENING.remove(self)

    def sentences(self) -> list[str]:
        """For the user; none where nothing was done outside of caches, and nothing of temporary files that are gone again."""
        new = {path: name for path, name in self._written.items() if path not in self._overwritten}
        groups = (
            ("wrote", "file", [name for path, name in new.items() if os.path.lexists(path)]),
            ("overwrote", "file", list(self._overwritten.values())),
            ("removed", "path", [name for path, name in self._removed.items() if not os.path.lexists(path)]),
        )
        return [f"the script itself {verb} {_counted(names, noun)}" for verb, noun, names in groups if names]

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        """Note an audit event (docs.python.org/3/library/audit_events.html)."""
        name = _file_name(arguments[0])
        if name is None:
            return
        if event == "open":
            if _is_writing(arguments[1], arguments[2]):
                self._note_writing(name)
        elif event == "os.rename":
            self._note_renaming(name, _file_name(arguments[1]))
        elif event == "shutil.rmtree" or (event == "os.remove" and arguments[1] == _NO_FOLDER):
            self._note_removal(name)

    def _note_writing(self, name: str) -> None:
        path = Path(name).absolute()
        if path.is_dir():  # `tempfile` opens a folder to make its file in
            return
        if path not in self._written and os.path.lexists(path):
            self._overwritten[path] = name
        self._written[path] = name

    def _note_renaming(self, name: str, target: str | None) -> None:
        """A file that is written elsewhere and then put in its place counts under its last name."""
        if target is not None and self._written.pop(Path(name).absolute(), None) is not None:
            self._note_writing(target)

    def _note_removal(self, name: str) -> None:
        path = Path(name).absolute()
        if any(found not in self._written for found in _files_of(path)):
            self._removed[path] = name


def _is_writing(mode: object, flags: object) -> bool:
    """`open` tells a mode, `os.open` the flags of the system call."""
    if isinstance(mode, str):
        return bool(_WRITING & set(mode))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _files_of(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path] if os.path.lexists(path) else []
    return (Path(folder, name) for folder, _, names in os.walk(path) for name in names)


def _file_name(name: object) -> str | None:
    """As the script names it; None for what is no file of the script, such as a number or a cache."""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return None
    text = os.fsdecode(name)
    return None if text.startswith(_NOT_FILES) or "__pycache__" in Path(text).parts else text


def _counted(names: list[str], noun: str) -> str:
    shown = ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}, which is real: {shown}"
