"""Files that appear complete or not at all. Standard library alone: the measurement campaign runs on a bare machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, in the folder of `path`; at the end of the block it takes the place of `path`.

    Where the block fails, what was written is gone and `path` is as it was. Two processes that write the same file do not meet.

    Raises:
        OSError: the disk is full, or the folder does not exist or cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
