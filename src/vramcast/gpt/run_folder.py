"""The folder of a model: a Hugging Face folder plus trainer state, tokens and log; never seen half written. Needs no torch.

    config.json  generation_config.json  tokenizer.json  tokenizer_config.json     written once
    model.safetensors                                                              replaced at every checkpoint, atomically
    trainer_state-00000500.safetensors                                             holds the SHA-256 of the weights it belongs to
    log.jsonl   tokens/

A new model is built in a hidden folder next to its place and renamed once it is complete. Later checkpoints write a new trainer
state first, then replace the weights, then delete the old state: at any moment the weights in place have their trainer state.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vramcast.errors import InputError
from vramcast.gpt.writing import writing

WEIGHTS = "model.safetensors"
LOG = "log.jsonl"
_STATES = "trainer_state-*.safetensors"


class RunFolder:
    """`models_dir/name`, or the hidden folder in which it is being built until its first checkpoint is complete."""

    def __init__(self, models_dir: Path, name: str) -> None:
        """Name the folder; nothing is read or written.

        Raises:
            InputError: the name is not that of a folder.
        """
        if not name.isprintable() or not name or name.startswith(".") or name != Path(name).name:
            raise InputError(
                "--name", name, "must be a plain folder name, without slashes, control characters or a leading dot"
            )
        self.name = name
        self.place = models_dir.expanduser() / name
        self._building = self.place.with_name(f".{name}.building")
        self.is_new = not self.place.exists()

    @property
    def here(self) -> Path:
        """Where the files are now."""
        return self._building if self.is_new else self.place

    def start_over(self) -> None:
        """Build a new model; one that has the name keeps it until the new one is complete."""
        self.is_new = True

    def clear_building(self) -> None:
        """Make an empty folder to build in; what a killed run left there goes.

        Raises:
            InputError: it cannot be made.
        """
        shutil.rmtree(self._building, ignore_errors=True)
        with writing(self.place.parent, "nothing was trained"):
            self._building.mkdir(parents=True)

    def discard_building(self) -> None:
        """Remove what was being built."""
        shutil.rmtree(self._building, ignore_errors=True)

    def publish(self, weights: Path, state: Path) -> None:
        """Put a complete checkpoint in place; `weights` and `state` are files of this file system.

        Raises:
            OSError: the disk refuses.
        """
        for file in (weights, state):
            _sync(file)
        state.replace(self.here / state.name)
        weights.replace(self.here / WEIGHTS)
        _sync(self.here)
        for old in self.states():
            if old.name != state.name:
                old.unlink()
        if self.is_new:
            self._take_the_name()

    def _take_the_name(self) -> None:
        if self.place.exists():
            self.place.rename(_free_name(self.place))
        self._building.rename(self.place)
        self.is_new = False
        _sync(self.place.parent)

    def states(self) -> Iterator[Path]:
        """Trainer states in the folder."""
        return iter(sorted(self.here.glob(_STATES)))

    def state_path(self, folder: Path, step: int) -> Path:
        """Where in `folder` the trainer state of `step` goes."""
        return folder / _STATES.replace("*", f"{step:08d}")


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _free_name(place: Path) -> Path:
    names = (place.with_name(f"{place.name}.previous-{number}") for number in range(1, 1_000_000))
    return next(name for name in names if not name.exists())


def _sync(path: Path) -> None:
    """Have the system write it out, so that a power cut finds it whole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
