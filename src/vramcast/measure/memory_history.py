"""PyTorch's own memory snapshot of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vramcast.errors import InputError
from vramcast.whole_file import replacing

MAX_ENTRIES = 1_000_000
"""Entries of the history; three steps of a hundred layers make some hundred thousand."""


def check_snapshot_path(path: Path) -> None:
    """Say before anything is measured whether a snapshot could be written there.

    Raises:
        InputError: it could not.
    """
    if not torch.cuda.is_available():
        raise InputError("snapshot", str(path), "there is no CUDA device here, and so no allocator to take it of")
    if path.is_dir():
        raise InputError("snapshot", str(path), "is a folder; name a file such as snapshot.pickle")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError("snapshot", str(path), f"{path.parent} is no folder that can be written; name another file")


@contextmanager
def memory_history(path: Path | None) -> Iterator[list[str]]:
    """Keep the allocator's history during the block and write it to `path`; without a path, nothing.

    The file appears only when complete; `vramcast.allocator.read_snapshot` and PyTorch's viewer read it. Where it cannot be written,
    the list that the block gets says so afterwards: a measurement is not lost for it.
    """
    problems: list[str] = []
    if path is None:
        yield problems
        return
    torch.cuda.init()  # without a context there is no allocator yet whose history could be kept
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_ENTRIES)
    try:
        yield problems
        try:
            with replacing(path) as unfinished:
                torch.cuda.memory._dump_snapshot(str(unfinished))
        except OSError as error:
            problems.append(f"no snapshot: {path} could not be written ({error.strerror})")
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
