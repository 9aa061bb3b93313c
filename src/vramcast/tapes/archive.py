"""An archive of tapes: all tapes of one structure in one zip file, each an entry of its own.

An entry is a tape's JSON (see `format`) without its key, named by its content, so that settings which run the same operators share
one. `index.json` says which entries answer which settings:

| key | content |
|---|---|
| `structure` | the structure that all keys in the archive have in common |
| `guards` | lists of guards, as in `format` |
| `settings` | digest of a key's settings -> `key`, the settings; `tapes`, pairs of an entry and the number of its list of guards |

The guards are in the index so that a tape which does not hold at given dimensions need not be read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.resources.abc import Traversable
from io import BytesIO
from typing import Any

from vramcast.tapes.expressions import Expression, TapeError
from vramcast.tapes.format import from_json, to_json
from vramcast.tapes.key import Key, settings_digest, structure_digest
from vramcast.tapes.tape import Guard, Tape

INDEX = "index.json"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_DAMAGES = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
)


def archive_name(model_type: str, key: Key) -> str:
    """File name of the archive that holds the tapes of a key."""
    return f"{model_type}-{structure_digest(key)}.zip"


def archive_bytes(tapes: Sequence[Tape]) -> bytes:
    """An archive of tapes of one structure: the same bytes for the same tapes in the same order, with the same zlib."""
    assert len({structure_digest(tape.key) for tape in tapes}) == 1, "an archive holds one structure"
    contents: dict[str, bytes] = {}
    guards: dict[str, int] = {}
    settings: dict[str, dict[str, Any]] = {}
    for tape in tapes:
        content = content_bytes(tape)
        entry = [entry_name(content), guards.setdefault(_json(_guards_to_json(tape)), len(guards))]
        contents.setdefault(str(entry[0]), content)
        known = settings.setdefault(settings_digest(tape.key), {"key": _settings(tape.key), "tapes": []})
        if entry not in known["tapes"]:
            known["tapes"].append(entry)
    index = {
        "structure": tapes[0].key["structure"],
        "guards": [json.loads(guard) for guard in guards],
        "settings": settings,
    }
    return _zipped({INDEX: _json(index).encode(), **{name: contents[name] for name in sorted(contents)}})


def content_bytes(tape: Tape) -> bytes:
    """What is stored of a tape: everything but its key."""
    return _json({name: value for name, value in to_json(tape).items() if name != "key"}).encode()


def entry_name(content: bytes) -> str:
    """Name of the entry with this content."""
    return f"{hashlib.sha256(content).hexdigest()[:12]}.json"


class Archive:
    """An archive of tapes, opened when something is asked of it.

    Every method raises `TapeError` where the file is damaged; the message names it.
    """

    def __init__(self, path: Traversable) -> None:
        self._path = path
        self._tapes: dict[tuple[str, str], Tape] = {}

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    def settings(self) -> list[str]:
        """Digest of the settings of every key that has tapes."""
        return list(self._index["settings"])

    def entries(self, settings: str, values: Mapping[str, int] | None = None) -> list[str]:
        """Entries that answer these settings; with numbers, only those whose guards hold."""
        if settings not in self._index["settings"]:
            return []
        with _Damage(self.name):
            rows = [(str(entry), self._guards[guards]) for entry, guards in self._index["settings"][settings]["tapes"]]
        return [entry for entry, guards in rows if values is None or all(guard.holds(values) for guard in guards)]

    def tapes(self, settings: str, values: Mapping[str, int] | None = None) -> Iterator[Tape]:
        """The tapes of `entries`."""
        for entry in self.entries(settings, values):
            known = self._tapes.get((settings, entry))
            if known is None:
                known = self._tapes[settings, entry] = self._read_tape(settings, entry)
            yield known

    def content(self, entry: str) -> bytes:
        """The bytes of an entry."""
        with _Damage(self.name), self._path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return archive.read(entry)

    @cached_property
    def _index(self) -> dict[str, Any]:
        content = self.content(INDEX)
        with _Damage(self.name):
            index: dict[str, Any] = json.loads(content)
            for part, kind in (("structure", dict), ("guards", list), ("settings", dict)):
                if not isinstance(index[part], kind):
                    raise TypeError(f"{part} in {INDEX} is no {kind.__name__}")
        return index

    @cached_property
    def _guards(self) -> list[list[Guard]]:
        return [
            [Guard(kind, Expression.from_json(left), Expression.from_json(right)) for left, kind, right in guards]
            for guards in self._index["guards"]
        ]

    def _read_tape(self, settings: str, entry: str) -> Tape:
        content = self.content(entry)
        with _Damage(self.name):
            data = json.loads(content)
            key = {**self._index["settings"][settings]["key"], "structure": self._index["structure"]}
            tape = from_json({**data, "key": {}}, f"{self.name}, {entry}")
        return replace(tape, key=key)


class _Damage:
    """Turns what a damaged archive makes the standard library say into a message that names the archive."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TapeError) or not isinstance(error, _DAMAGES):
            return
        reason = f"{type(error).__name__}: {error}"
        raise TapeError(f"{self._name}: damaged archive of tapes ({reason}); reinstall vramcast") from error


def _settings(key: Key) -> Key:
    return {name: value for name, value in key.items() if name != "structure"}


def _guards_to_json(tape: Tape) -> list[Any]:
    return [[guard.left.to_json(), guard.kind, guard.right.to_json()] for guard in tape.guards]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()
