"""The input as text: read piece by piece, split into training and validation text. Needs no torch."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vramcast.errors import InputError

PIECE_BYTES = 1 << 20
"""Read at a time, up to the next end of line; memory does not grow with the file."""


class TextSpan(NamedTuple):
    """Bytes `begin` to `end` of a file; both lie between two characters."""

    path: Path
    begin: int
    end: int

    @property
    def num_bytes(self) -> int:
        """Length in bytes."""
        return self.end - self.begin

    def pieces(self) -> Iterator[str]:
        """The text in pieces that end with a line where lines are not too long.

        Raises:
            InputError: not UTF-8.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        with self.path.open("rb") as file:
            file.seek(self.begin)
            while file.tell() < self.end:
                position = file.tell()
                raw = file.read(min(PIECE_BYTES, self.end - position))
                raw += file.readline(min(PIECE_BYTES, self.end - file.tell()))
                try:
                    piece = decoder.decode(raw, final=file.tell() >= self.end)
                except UnicodeDecodeError as error:
                    near = position + error.start
                    fix = f"is not text in UTF-8 (near byte {near}); convert it first"
                    raise InputError("--input", str(self.path), fix) from None
                if piece:
                    yield piece


def split_text(path: Path, validation_fraction: float) -> tuple[TextSpan, TextSpan]:
    """Training text and, from the end, validation text.

    Raises:
        InputError: no such file, not readable, or empty.
    """
    try:
        if not path.is_file():
            raise InputError("--input", str(path), "no such file; give a text file")
        size = path.stat().st_size
        if size == 0:
            raise InputError("--input", str(path), "is empty; give a file with text")
        cut = _before_character(path, round(size * (1 - validation_fraction)), size)
    except OSError as error:
        raise InputError("--input", str(path), f"cannot be read: {error.strerror}") from error
    return TextSpan(path, 0, cut), TextSpan(path, cut, size)


def _before_character(path: Path, position: int, size: int) -> int:
    """`position`, or the begin of the next character where it lies within one (a UTF-8 character has four bytes at most)."""
    with path.open("rb") as file:
        file.seek(position)
        within = file.read(4)
    return min(position + sum(1 for _ in _continuation(within)), size)


def _continuation(raw: bytes) -> Iterator[int]:
    for byte in raw:
        if byte & 0b1100_0000 != 0b1000_0000:
            return
        yield byte
