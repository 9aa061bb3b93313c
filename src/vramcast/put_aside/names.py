"""Which path an act on files means: relative names, file descriptors, links on the way, and what is never guarded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_NOT_FILES = ("/dev/", "/proc/", "/sys/")
_CACHES = "__pycache__"
_NO_FOLDER = -1
"""`dir_fd` in an audit event where none was given."""


def named(name: object, folder: object = None) -> str | None:
    """The absolute path that a name or an open file's number stands for; None for what is no path.

    Args:
        name: as it was given to the function that acts.
        folder: its `dir_fd`.

    Raises:
        OSError: the working folder is gone, or the number is no open file.
    """
    if isinstance(name, int):
        return _of_descriptor(name)
    if not isinstance(name, (str, bytes, os.PathLike)):
        return None
    text = os.fsdecode(name)
    if not text or "\0" in text:
        return None
    if isinstance(folder, int) and folder != _NO_FOLDER and not text.startswith(os.sep):
        above = _of_descriptor(folder)
        return None if above is None else f"{above}/{text}"
    return f"{Path.cwd()}/{text}" if not text.startswith(os.sep) else text


def shown(name: object) -> str:
    """As the script gave it."""
    if isinstance(name, (str, bytes, os.PathLike)):
        return os.fsdecode(name)
    return _of_descriptor(name) or str(name) if isinstance(name, int) else str(name)


def target_of(path: str) -> str:
    """The file that is written when this path is opened: links are followed."""
    return os.path.realpath(path)


def itself(path: str) -> str:
    """The name that goes when this path is removed or renamed: links on the way are followed, a link at its end is not."""
    above, _, last = path.rstrip(os.sep).rpartition(os.sep)
    if last in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(above or os.sep), last)  # noqa: PTH118, of strings


def is_left_alone(path: str) -> bool:
    """Devices and what the kernel shows as files; caches that Python writes by itself."""
    return path.startswith(_NOT_FILES) or f"/{_CACHES}/" in f"{path}/"


def _of_descriptor(number: int) -> str | None:
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(number, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    path = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    return path if path.startswith(os.sep) and not path.endswith(" (deleted)") else None
