"""Paths of files that were left out: they exist for who asks, can be renamed and removed; they cannot be opened or listed.

Libraries look whether a checkpoint exists before they load it. A path is answered for only where its folder exists, and only when no
real file is there.
"""

from __future__ import annotations

import os
import stat as stat_modes
import time
from typing import Any

from vramcast.virtual_cuda.patches.patch_set import PatchSet
from vramcast.virtual_cuda.saved import SavedFiles


def install(patches: PatchSet, files: SavedFiles) -> None:
    """Replace `os.stat` and the functions that move and remove; `os.path` and `pathlib` go through them."""
    real_stat = os.stat

    def stat(path: Any, **where: Any) -> os.stat_result:
        try:
            return real_stat(path, **where)
        except FileNotFoundError:
            size = None if where.get("dir_fd") is not None else files.size_of(path)
            if size is None:
                raise
            return _regular_file(size)

    patches.set(os, "stat", stat)
    for name in ("remove", "unlink"):
        patches.set(os, name, _remove(getattr(os, name), files))
    for name in ("rename", "replace"):
        patches.set(os, name, _rename(getattr(os, name), files))
    patches.set(os, "rmdir", _rmdir(os.rmdir, files))


def _regular_file(size: int) -> os.stat_result:
    now = int(time.time())
    return os.stat_result((stat_modes.S_IFREG | 0o644, 0, 0, 1, os.getuid(), os.getgid(), size, now, now, now))


def _remove(remove: Any, files: SavedFiles) -> Any:
    def remove_virtual(path: Any, **where: Any) -> None:
        was_kept = where.get("dir_fd") is None and files.forget(path)
        try:
            remove(path, **where)
        except FileNotFoundError:
            if not was_kept:
                raise

    return remove_virtual


def _rename(rename: Any, files: SavedFiles) -> Any:
    def rename_virtual(src: Any, dst: Any, **where: Any) -> None:
        was_kept = not where and files.rename(src, dst)
        try:
            rename(src, dst, **where)
        except FileNotFoundError:
            if not was_kept:
                raise

    return rename_virtual


def _rmdir(rmdir: Any, files: SavedFiles) -> Any:
    def rmdir_virtual(path: Any, **where: Any) -> None:
        rmdir(path, **where)
        if where.get("dir_fd") is None:
            files.forget_folder(path)

    return rmdir_virtual
