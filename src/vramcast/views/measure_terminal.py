"""A measurement on the terminal: peaks, categories, instants, and what to know about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramcast.views.measure_rows import ComparedRow, category_rows, device_line, instant_rows, peak_rows

if TYPE_CHECKING:
    from vramcast.measure.measurement import Measurement


def print_measurement(measurement: Measurement, console: Console) -> None:
    """Print forecast beside measurement."""
    console.print(measurement_renderable(measurement))


def measurement_renderable(measurement: Measurement) -> RenderableType:
    """The whole view as one rich renderable."""
    parts: list[RenderableType] = [Text(device_line(measurement), style="bold")]
    if measurement.status == "oom":
        parts.append(Text(f"OUT OF MEMORY  {measurement.message}", style="bold red"))
    tables = {
        "": peak_rows(measurement),
        "live tensors at their peak": category_rows(measurement),
        "instants": instant_rows(measurement),
    }
    for title, rows in tables.items():
        if rows:
            parts += ["", _table(title, rows)]
    if measurement.notes:
        parts += ["", _notes(measurement.notes)]
    return Group(*parts)


def _notes(notes: Sequence[str]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for note in notes:
        table.add_row("  ·", Text(note), style="dim")
    return table


def _table(title: str, rows: Sequence[ComparedRow]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(title, min_width=28)
    for heading in ("forecast", "measured", "error"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, row.forecast, row.measured, row.error)
    return table
