"""The tapes that there are: those that ship with the package and those recorded on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vramcast.tapes.archive import Archive
from vramcast.tapes.key import structure_digest
from vramcast.tapes.library import cache_folder, library_folder, shipped_archives, whole_tape
from vramcast.tapes.tape import Tape

Origin = Literal["shipped", "recorded here", "damaged"]
"""A damaged file of the cache is recorded anew when its tape is needed."""


@dataclass(frozen=True, slots=True)
class TapeFile:
    """An archive that ships, or the file of one tape recorded on this machine."""

    name: str
    origin: Origin
    size_bytes: int
    number_of_tapes: int
    tapes: tuple[Tape, ...]
    """Empty for an archive that was not read, and for a damaged file."""


def tape_files(structure: dict[str, Any] | None = None) -> Iterator[TapeFile]:
    """Every file of tapes, shipped ones first.

    Args:
        structure: of a model; only tapes that it can use, and archives are read. Otherwise archives are only counted.

    Raises:
        TapeError: an archive that ships is damaged; the message names it.
    """
    digest = None if structure is None else structure_digest({"structure": structure})
    for archive in shipped_archives():
        if digest is None or archive.name.endswith(f"-{digest}.zip"):
            yield _shipped(archive, read=digest is not None)
    for path in sorted(cache_folder().glob(f"{digest or '*'}/*.json.gz")):
        tape = whole_tape(path)
        kept: tuple[Tape, ...] = () if tape is None else (tape,)
        yield TapeFile(path.name, "recorded here" if kept else "damaged", path.lstat().st_size, len(kept), kept)


def _shipped(archive: Archive, read: bool) -> TapeFile:
    size = len(library_folder().joinpath(archive.name).read_bytes())
    digests = archive.settings()
    number = sum(len(archive.entries(digest)) for digest in digests)
    tapes = tuple(tape for digest in digests for tape in archive.tapes(digest)) if read else ()
    return TapeFile(archive.name, "shipped", size, number, tapes)


def settings_words(tape: Tape) -> str:
    """What a tape was recorded for besides the structure of the model: `precision fp32, attention sdpa, …`."""
    said = []
    for name, value in tape.key.items():
        if name in ("structure", "part") or value in (False, [], None):
            continue
        words = name.replace("_", " ")
        said.append(words if value is True else f"{words} {' '.join(value) if isinstance(value, list) else value}")
    return ", ".join(said)


def guard_words(tape: Tape) -> str:
    """The conditions under which a tape holds: `B > 1, T > 1, D multiple of 8, flash attention`."""
    said = [str(guard) for guard in tape.guards]
    said += dict.fromkeys(f"{guard.choice.backend} attention" for guard in tape.attention)
    if tape.min_layers > 1:
        said.append(f"L >= {tape.min_layers}")
    if tape.max_layers is not None:
        said.append(f"L <= {tape.max_layers}")
    return ", ".join(said)


def certified_words(tape: Tape) -> str:
    """Where a direct trace agreed event by event: `B=2 T=16 …`."""
    places = (" ".join(f"{letter}={value}" for letter, value in place.items()) for place in tape.certified)
    return "; ".join(places)
