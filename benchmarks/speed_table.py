"""The lines of a table of times, as text, markdown and JSON."""

import os
import platform
from dataclasses import dataclass
from statistics import median

from cold_commands import Timing

COLUMNS = ("what", "median", "fastest", "CPU", "runs", "goal", "times faster than", "the reference")


@dataclass(frozen=True)
class Row:
    """One line of the table, in seconds (or bytes)."""

    what: str
    median_seconds: float
    fastest_seconds: float
    cpu_seconds: float
    runs: int
    goal_seconds: float | None = None
    reference: str | None = None
    """`what` of the row it is compared with."""


@dataclass(frozen=True)
class TapeSize:
    """Bytes of the file of a tape, gzipped."""

    tape: str
    bytes: int
    goal_bytes: int = 10_000


def row_of(what: str, timings: list[Timing], goal_seconds: float | None = None, reference: str | None = None) -> Row:
    """The line of several runs."""
    wall = [timing.wall_seconds for timing in timings]
    cpu = median(timing.cpu_seconds for timing in timings)
    return Row(what, median(wall), min(wall), cpu, len(timings), goal_seconds, reference)


def seconds_text(seconds: float | None) -> str:
    """In ms below a second."""
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.{3 if seconds < 1e-3 else 1}f} ms"


def cells_of(rows: list[Row]) -> list[list[str]]:
    """The table as text."""
    medians = {row.what: row.median_seconds for row in rows}
    return [
        [
            row.what,
            *map(seconds_text, (row.median_seconds, row.fastest_seconds, row.cpu_seconds)),
            str(row.runs),
            seconds_text(row.goal_seconds),
            f"{medians[row.reference] / row.median_seconds:.3g}" if row.reference else "",
            row.reference or "",
        ]
        for row in rows
    ]


def machine() -> str:
    """What it ran on, and how busy that was."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; load average {load}"


def markdown(cells: list[list[str]], sizes: list[TapeSize], where: str) -> str:
    """The tables of the page."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *(f"| {' | '.join(row)} |" for row in cells)]
    lines += ["", "| tape | bytes, gzipped | goal |", "|---|---|---|"]
    lines += [f"| {size.tape} | {size.bytes} | {size.goal_bytes} |" for size in sizes]
    return "\n".join([where, "", *lines, ""])
