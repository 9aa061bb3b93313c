"""PyTorch's own memory snapshot of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vramcast.whole_file import replacing

MAX_ENTRIES = 1_000_000
"""Entries of the history; three steps of a hundred layers make some hundred thousand."""


@contextmanager
def memory_history(path: Path | None) -> Iterator[None]:
    """Keep the allocator's history during the block and write it to `path`; without a path, nothing.

    The file appears only when complete; `vramcast.allocator.read_snapshot` and PyTorch's viewer read it.
    """
    if path is None:
        yield
        return
    torch.cuda.init()  # without a context there is no allocator yet whose history could be kept
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_ENTRIES)
    try:
        yield
        with replacing(path) as unfinished:
            torch.cuda.memory._dump_snapshot(str(unfinished))
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
