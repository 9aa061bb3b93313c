"""Writing that may fail: one message for a full disk, whichever library meets it. Needs no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vramcast.errors import InputError


@contextmanager
def writing(models_dir: Path, kept: str) -> Iterator[None]:
    """What is written in here may fail; `kept` says what is on disk then.

    Raises:
        InputError: the disk is full or refuses.
    """
    try:
        yield
    except Exception as error:
        # Tokenizers raises a bare Exception where a file cannot be written.
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise InputError("--models-dir", str(models_dir), f"cannot be written: {reason}; {kept}") from error


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards; one that a killed process left is emptied."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        with writing(path.parent, "nothing was written"):
            path.mkdir(parents=True)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def as_readable_as_others(folder: Path) -> None:
    """The files in `folder` get the mode that files get here; safetensors' are for their owner alone, as its temporary files are.

    Raises:
        OSError: the disk refuses.
    """
    plain = folder / ".plain"
    plain.touch()
    mode = plain.stat().st_mode
    plain.unlink()
    for file in folder.iterdir():
        file.chmod(mode)
