"""A fit matrix on the terminal: the card to take first, then a row per card."""

from dataclasses import astuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramcast.plan import FitMatrix
from vramcast.views.fit_rows import choice_line, column_names, fit_rows, notes, question_line

VERDICT_COLORS = {"fits": "green", "tight": "yellow", "does_not_fit": "red", "unknown": "magenta", None: "dim"}


def print_fit(matrix: FitMatrix, console: Console) -> None:
    """Print a fit matrix."""
    console.print(fit_renderable(matrix))


def fit_renderable(matrix: FitMatrix) -> RenderableType:
    """The whole view as one rich renderable."""
    verdict = "does_not_fit" if matrix.choice is None else matrix.choice.verdict
    parts: list[RenderableType] = [
        Text(choice_line(matrix), style=f"bold {VERDICT_COLORS[verdict]}"),
        Text(question_line(matrix), style="dim"),
        "",
        _table(matrix),
    ]
    lines = [*notes(matrix), *matrix.assumptions]
    if lines:
        parts += ["", *(Text(f"  {line}", style="dim") for line in lines)]
    return Group(*parts)


def _table(matrix: FitMatrix) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    has_prices = any(row.usd_per_hour is not None for row in matrix.rows)
    names = column_names(matrix) if has_prices else column_names(matrix)[:-1]
    for position, name in enumerate(names):
        table.add_column(name, justify="left" if position in (0, 2) else "right", no_wrap=position < 3)
    for row in fit_rows(matrix):
        gpu, memory, key, verdict, *rest = astuple(row)
        cells = [gpu, memory, Text(verdict, style=VERDICT_COLORS[key]), *rest]
        table.add_row(*cells[: len(names)])
    return table
