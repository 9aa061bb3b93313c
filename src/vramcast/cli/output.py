"""Standard output that an answer can always be written to: closed, full, cut off by `| head`, or unable to show a letter.

A command ends with the code of its verdict, whoever reads it. What cannot be written is dropped, and a full disk is told on stderr.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_PLAIN = str.maketrans(
    {
        "█": "#", "▏": "|", "▌": "#", "■": "#", "┃": "|", "│": "|", "─": "-", "━": "-", "╸": "-", "╺": "-", "·": "-", "−": "-", "–": "-",
        "±": "+-", "×": "x", "→": "->", "…": "...", "≤": "<=", "≥": ">=", "²": "^2", "³": "^3",
    }
)  # fmt: skip
"""Letters of our own views that an ASCII terminal cannot show."""


class SafeOutput(io.TextIOBase):
    """A text stream that never raises; the stream below it, if there is one, gets everything until it fails."""

    def __init__(self, stream: Any) -> None:
        """Write to `stream`, which is None where the process was started without."""
        self._stream = stream
        self.failure: OSError | None = None
        """Why nothing more is written, where it is not that the reader has gone."""

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._stream is not None:
            try:
                self._stream.write(_showable(text, self._stream.encoding))
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Send on what was written."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        if isinstance(error, OSError) and error.errno != errno.EPIPE:
            self.failure = error
        with suppress(OSError, ValueError):
            # What is left in the buffer must not be tried again when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._stream = None

    def isatty(self) -> bool:
        """Whether somebody is looking."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor below.

        Raises:
            OSError: there is none.
        """
        if self._stream is None:
            raise OSError(errno.EBADF, "no standard output")
        return int(self._stream.fileno())

    def writable(self) -> bool:
        """True: see `write`."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream below; any letter may be written all the same."""
        return "utf-8" if self._stream is None else self._stream.encoding

    @property
    def buffer(self) -> Any:
        """The bytes below, for what writes a file to standard output."""
        return None if self._stream is None else self._stream.buffer


def _showable(text: str, encoding: str | None) -> str:
    """The text in letters that the stream can show."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding or "ascii", "replace").decode(encoding or "ascii")
    return text


@contextmanager
def safe_standard_output() -> Iterator[None]:
    """Standard output and standard error are safe inside the block."""
    _open_descriptors()
    before = sys.stdout, sys.stderr
    stdout, stderr = SafeOutput(before[0]), SafeOutput(before[1])
    sys.stdout, sys.stderr = stdout, stderr
    try:
        yield
    finally:
        stdout.flush()
        if stdout.failure is not None:
            stderr.write(f"vramcast: the answer could not be written: {stdout.failure.strerror}\n")
        stderr.flush()
        sys.stdout, sys.stderr = before


def _open_descriptors() -> None:
    """A descriptor below 3 that is closed would be given to the next file that is opened, and prints would land in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
