"""Under which path, or in which file object, the content of a virtual save is kept."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

from vramcast.virtual_cuda.saved.objects import SavedObject

TOKEN_PREFIX = b"vramcast dry run: no checkpoint, its weights were never computed; content "
"""What a file object gets instead of a checkpoint; the number behind it finds the content while the virtual GPU runs."""
_TOKEN_DIGITS = 12


class SavedFiles:
    """Contents saved while a virtual GPU runs: nothing of them is written under a path that the code names.

    A file object (a buffer, an open file) is the caller's own and gets a token, because its bytes may be moved or copied anywhere.
    """

    def __init__(self) -> None:
        self._by_path: dict[str, SavedObject] = {}
        self._by_token: dict[bytes, SavedObject] = {}
        self._numbers = count(1)

    def keep(self, file: Any, saved: SavedObject) -> None:
        """Keep what was saved to a path or a file object."""
        if is_path(file):
            self._by_path[_absolute(file)] = saved
        else:
            file.write(self.token(saved))

    def token(self, saved: SavedObject) -> bytes:
        """Bytes that stand for the content."""
        token = TOKEN_PREFIX + str(next(self._numbers)).zfill(_TOKEN_DIGITS).encode()
        self._by_token[token] = saved
        return token

    def find(self, file: Any) -> SavedObject | None:
        """What was kept for a path or a file object, or None; a file object stays at its position unless it held a token."""
        if is_path(file):
            return self._by_path.get(_absolute(file)) or self._in_file(file)
        if not hasattr(file, "read") or not hasattr(file, "seek") or not hasattr(file, "tell"):
            return None
        start = file.tell()
        saved = self.behind(file.read(len(TOKEN_PREFIX) + _TOKEN_DIGITS))
        if saved is None:
            file.seek(start)
        return saved

    def behind(self, token: Any) -> SavedObject | None:
        """What a token stands for, or None if these bytes are none."""
        return self._by_token.get(bytes(token)) if isinstance(token, (bytes, bytearray, memoryview)) else None

    def forget(self, file: Any) -> bool:
        """Something real was saved under a path, or it was removed; true if a content was kept for it."""
        return is_path(file) and self._by_path.pop(_absolute(file), None) is not None

    def forget_folder(self, folder: Any) -> None:
        """A folder was removed."""
        for path in self._inside(folder):
            del self._by_path[path]

    def rename(self, source: Any, target: Any) -> bool:
        """A file or a folder gets another name; true if it is a file that was left out."""
        for path in self._inside(source):
            self._by_path[_absolute(target) + path[len(_absolute(source)) :]] = self._by_path.pop(path)
        saved = self._by_path.pop(_absolute(source), None)
        if saved is not None:
            self._by_path[_absolute(target)] = saved
        return saved is not None

    def size_of(self, path: Any) -> int | None:
        """Bytes the file would have (its tensors), or None if nothing is kept for this path or its folder is gone."""
        if not self._by_path or not is_path(path):
            return None
        absolute = _absolute(path)
        saved = self._by_path.get(absolute)
        if saved is None or not Path(absolute).parent.is_dir():
            return None
        return sum(spec.nbytes for spec in saved.storages)

    def _inside(self, folder: Any) -> list[str]:
        prefix = _absolute(folder) + os.sep
        return [path for path in self._by_path if path.startswith(prefix)]

    def _in_file(self, path: Any) -> SavedObject | None:
        try:
            with Path(os.fsdecode(path)).open("rb") as file:
                return self.behind(file.read(len(TOKEN_PREFIX) + _TOKEN_DIGITS))
        except OSError:
            return None


def is_path(file: Any) -> bool:
    """True for what names a file."""
    return isinstance(file, (str, bytes, os.PathLike))


def _absolute(path: Any) -> str:
    return os.path.realpath(os.fsdecode(path))
