"""Counters of a dry run in a file that is mapped into memory: what they say outlives the process, however it ends."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_LAYOUT = struct.Struct("<5q")


class Counters(NamedTuple):
    """What is known of a run at any moment."""

    allocations: int = 0
    """On the GPU, so far."""
    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0
    optimizer_steps: int = 0
    script_ended: int = 0
    """1 once the script's last line has run and its exit handlers begin."""


class FlightLog:
    """The writer's side. A page of the page cache is written, so that not even SIGKILL loses the last value."""

    def __init__(self, path: Path) -> None:
        """Map the file, which is made if it is not there."""
        path.write_bytes(bytes(_LAYOUT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)

    def note(self, counters: Counters) -> None:
        """Replace what stands there."""
        _LAYOUT.pack_into(self._map, 0, *counters)


def read_counters(path: Path) -> Counters:
    """What a run noted last; zeros where it never began."""
    try:
        return Counters(*_LAYOUT.unpack(path.read_bytes()))
    except (FileNotFoundError, struct.error):
        return Counters()
