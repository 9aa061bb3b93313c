"""Where tapes are kept: those that ship with the package, and those that were recorded on this machine.

A shipped archive holds all tapes of one structure: `index.json` names, for each setting, the tapes that were recorded for it, with
the conditions each holds under. Tapes recorded on this machine are single files in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import metadata, resources
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from vramcast.tapes.composing import as_other_half
from vramcast.tapes.expressions import TapeError
from vramcast.tapes.format import dump, from_json, read_tape, to_json
from vramcast.tapes.key import Key, canonical, settings_digest, structure_digest
from vramcast.tapes.tape import Tape

INDEX = "index.json"
CACHE_VARIABLE = "VRAMCAST_CACHE"
"""Environment variable with another folder for recorded tapes."""
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def find_tapes(key: Key) -> Iterator[Tape]:
    """Every tape recorded for these settings, shipped ones first; they differ in the conditions they hold under.

    Raises:
        TapeError: a file is damaged; the message names it.
    """
    looked_for, is_other_half = canonical(key)
    digest = settings_digest(looked_for)
    structure = structure_digest(looked_for)
    remembered = _REMEMBERED.get((structure, digest), [])
    for tape in chain(_shipped(structure, digest), remembered, _recorded(looked_for)):
        yield _as_other_half(_ById(tape)) if is_other_half else tape


def keep_tape(tape: Tape) -> Path | None:
    """Remember a tape recorded on this machine, also for later runs; None where the user's cache folder cannot be written."""
    _REMEMBERED.setdefault((structure_digest(tape.key), settings_digest(tape.key)), []).append(tape)
    data = dump(tape)
    folder = cache_folder() / structure_digest(tape.key)
    path = folder / f"{settings_digest(tape.key)}-{_content_digest(data)}.json.gz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    except OSError:
        return None
    return path


_REMEMBERED: dict[tuple[str, str], list[Tape]] = {}
"""Tapes recorded by this process."""


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or none."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


def shipped_archives() -> list[str]:
    """File names of the archives that ship with the package."""
    folder = resources.files("vramcast.tapes").joinpath("library")
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".zip")) if folder.is_dir() else []


def archive_bytes(tapes: list[Tape]) -> bytes:
    """An archive of tapes of one structure; the same bytes for the same tapes."""
    index: dict[str, list[str]] = {}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number, tape in enumerate(tapes):
            name = f"{number:03}.json"
            index.setdefault(settings_digest(tape.key), []).append(name)
            text = json.dumps(to_json(tape), separators=(",", ":"), sort_keys=True)
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), text, zipfile.ZIP_DEFLATED, 9)
        archive.writestr(zipfile.ZipInfo(INDEX, _ZIP_DATE), json.dumps(index), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def archive_tapes(name: str) -> Iterator[Tape]:
    """Every tape of a shipped archive."""
    with _open(name) as archive:
        for entry in sorted(archive.namelist()):
            if entry != INDEX:
                yield from_json(json.loads(archive.read(entry)), f"{name}, {entry}")


def _shipped(structure: str, settings: str) -> Iterator[Tape]:
    for name in shipped_archives():
        if name.endswith(f"-{structure}.zip"):
            for entry in _index(name).get(settings, []):
                yield _shipped_tape(name, entry)


@cache
def _index(name: str) -> dict[str, list[str]]:
    with _open(name) as archive:
        index: dict[str, list[str]] = json.loads(archive.read(INDEX))
    return index


@lru_cache(maxsize=256)
def _shipped_tape(name: str, entry: str) -> Tape:
    with _open(name) as archive:
        return from_json(json.loads(archive.read(entry)), f"{name}, {entry}")


def _open(name: str) -> zipfile.ZipFile:
    path: Any = resources.files("vramcast.tapes").joinpath("library", name)
    try:
        return zipfile.ZipFile(path.open("rb"))
    except (OSError, zipfile.BadZipFile) as error:
        raise TapeError(f"{name}: damaged archive of tapes ({error}); reinstall vramcast") from error


def _recorded(key: Key) -> Iterator[Tape]:
    folder = cache_folder() / structure_digest(key)
    try:
        paths = sorted(folder.glob(f"{settings_digest(key)}-*.json.gz"))
    except OSError:
        return
    for path in paths:
        yield _recorded_tape(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _recorded_tape(path: Path, changed: int) -> Tape:
    return read_tape(path)


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
