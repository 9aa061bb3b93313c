"""Where tapes are kept: those that ship with the package, and those that were recorded on this machine.

A shipped archive holds all tapes of one structure (see `archive`). Tapes recorded on this machine are single files in the user's
cache folder, each named by its content: one that is damaged is as good as none, and gives way to the tape that is recorded anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path

from vramcast.tapes.archive import Archive
from vramcast.tapes.composing import as_other_half
from vramcast.tapes.expressions import TapeError
from vramcast.tapes.format import dump, load
from vramcast.tapes.key import Key, canonical, settings_digest, structure_digest
from vramcast.tapes.tape import Tape
from vramcast.whole_file import replacing

CACHE_VARIABLE = "VRAMCAST_CACHE"
"""Environment variable with another folder for recorded tapes."""


def find_tapes(key: Key, values: Mapping[str, int] | None = None) -> Iterator[Tape]:
    """Every tape recorded for these settings, shipped ones first; they differ in the conditions they hold under.

    Args:
        key: the settings.
        values: letter -> number; shipped tapes whose guards do not hold at them are passed over unread.

    Raises:
        TapeError: an archive that ships is damaged; the message names it.
    """
    looked_for, is_other_half = canonical(key)
    remembered = _REMEMBERED.get((structure_digest(looked_for), settings_digest(looked_for)), [])
    for tape in chain(_shipped(looked_for, values), remembered, _recorded(looked_for)):
        yield _as_other_half(_ById(tape)) if is_other_half else tape


def keep_tape(tape: Tape) -> Path | None:
    """Remember a tape recorded on this machine, also for later runs; None where the user's cache folder cannot be written."""
    _REMEMBERED.setdefault((structure_digest(tape.key), settings_digest(tape.key)), []).append(tape)
    data = dump(tape)
    folder = cache_folder() / structure_digest(tape.key)
    path = folder / f"{settings_digest(tape.key)}-{_content_digest(data)}{_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError:
        return None
    _remove_damaged(folder, tape.key)
    return path


_SUFFIX = ".json.gz"
_REMEMBERED: dict[tuple[str, str], list[Tape]] = {}
"""Tapes recorded by this process."""


def cache_folder() -> Path:
    """Where tapes recorded on this machine are kept: `VRAMCAST_CACHE`, else the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        folder = Path(os.environ[CACHE_VARIABLE])
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("vramcast")
    return folder / "tapes" / recorder_digest()


@cache
def recorder_digest() -> str:
    """A short name for what records tapes here: another release of torch or transformers, or other code of ours, records anew."""
    named = [f"{name} {_release(name)}" for name in ("torch", "transformers", "numpy")]
    package = Path(str(resources.files("vramcast")))
    for folder in ("record", "virtual_cuda", "kernels", "tapes"):
        for path in sorted((package / folder).rglob("*.py")):
            changed = path.stat()
            named.append(f"{path.relative_to(package)} {changed.st_size} {changed.st_mtime_ns}")
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:12]


def _release(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def library_folder() -> Traversable:
    """Where the archives that ship with the package are."""
    return resources.files("vramcast.tapes").joinpath("library")


@cache
def shipped_archives() -> tuple[Archive, ...]:
    """The archives that ship with the package, in the order of their names."""
    folder = library_folder()
    entries = list(folder.iterdir()) if folder.is_dir() else []
    return tuple(
        Archive(entry) for entry in sorted(entries, key=lambda entry: entry.name) if entry.name.endswith(".zip")
    )


def _shipped(key: Key, values: Mapping[str, int] | None) -> Iterator[Tape]:
    for archive in shipped_archives():
        if archive.name.endswith(f"-{structure_digest(key)}.zip"):
            yield from archive.tapes(settings_digest(key), values)


def _recorded(key: Key) -> Iterator[Tape]:
    for path in _recorded_files(cache_folder() / structure_digest(key), key):
        tape = whole_tape(path)
        if tape is not None:
            yield tape


def whole_tape(path: Path) -> Tape | None:
    """The tape in a file of the cache; None where it is damaged, of another version, or gone: it is recorded anew when it is needed."""
    try:
        return _recorded_tape(path, path.stat().st_mtime_ns)
    except (TapeError, OSError):
        return None


def _recorded_files(folder: Path, key: Key) -> list[Path]:
    try:
        return sorted(folder.glob(f"{settings_digest(key)}-*{_SUFFIX}"))
    except OSError:
        return []


@lru_cache(maxsize=256)
def _recorded_tape(path: Path, changed: int) -> Tape:
    data = path.read_bytes()
    if not path.name.endswith(f"-{_content_digest(data)}{_SUFFIX}"):
        raise TapeError(f"{path}: its content is not the one it was written with")
    return load(data, str(path))


def _remove_damaged(folder: Path, key: Key) -> None:
    """Files that the tape of these settings has just been recorded for because they could not be read."""
    for path in _recorded_files(folder, key):
        if whole_tape(path) is None:
            with suppress(OSError):
                path.unlink()


class _ById:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def __hash__(self) -> int:
        return id(self.tape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.tape is self.tape


@lru_cache(maxsize=256)
def _as_other_half(tape: _ById) -> Tape:
    return as_other_half(tape.tape)


def _content_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]
