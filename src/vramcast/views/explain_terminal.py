"""An explanation on the terminal."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramcast.explain import Explanation, Guides, PeakFormula
from vramcast.views.advice_terminal import advice_renderable
from vramcast.views.explain_rows import (
    DEFAULT_DEPTH,
    TreeRow,
    formula_line,
    instant_line,
    letter_lines,
    map_notes,
    map_rows,
    peaks_line,
    sum_rows,
    term_rows,
    tree_rows,
    winner_lines,
)
from vramcast.views.fit_terminal import VERDICT_COLORS
from vramcast.views.rows import CATEGORY_COLORS, job_line, verdict_line
from vramcast.views.textbook_terminal import print_half_precision, print_model_textbook, print_textbook

BAR_WIDTH = 16
WINNER_STYLES = {"A": "bold red", "B": "bold blue", "C": "bold green"}


def print_explanation(explanation: Explanation, console: Console, depth: int = DEFAULT_DEPTH) -> None:
    """Print an explanation; the tree down to `depth` levels."""
    forecast = explanation.forecast
    console.print(Text(verdict_line(forecast), style=f"bold {VERDICT_COLORS[forecast.verdict]}"))
    console.print(Text(job_line(forecast), style="dim"))
    console.print(Text(peaks_line(explanation)))
    console.print(Text(instant_line(explanation.instant)))
    _title(console, "What is alive at the allocated peak")
    console.print(_tree(tree_rows(explanation.tree, depth)))
    _title(console, "The peak as a formula")
    console.print(
        Text(explanation.why_no_formula, style="dim") if explanation.formula is None else _formula(explanation.formula)
    )
    _title(console, "What each switch saves")
    console.print(advice_renderable(explanation.advice))
    _title(console, "The textbook beside the truth")
    print_model_textbook(explanation.textbook, console)


def print_guides(guides: Guides, console: Console) -> None:
    """Print every document of the textbook, and why fp16 saves so little."""
    print_textbook(guides.rows, console)
    print_half_precision(guides.half_precision, console, guides.tensors)


def _title(console: Console, text: str) -> None:
    console.print()
    console.rule(Text(text, style="bold"), align="left", style="dim")


def _tree(rows: list[TreeRow]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, min_width=BAR_WIDTH)
    for row in rows:
        color = CATEGORY_COLORS.get(row.category, "dim")
        name = Text.assemble(
            (row.branch, "dim"), (row.name, f"bold {color}" if row.level == 1 else ""), " " if row.name else ""
        )
        name.append(row.what, style="cyan")
        bar = Text("█" * round(row.share * BAR_WIDTH) or "▏", style=color)
        table.add_row(name, Text(row.size, "bold" if row.level == 1 else ""), f"{row.share:.1%}", bar)
    return table


def _formula(formula: PeakFormula) -> RenderableType:
    parts: list[RenderableType] = [
        Text(formula_line(formula)),
        "",
        _terms(formula),
        "",
        Columns([Text(line) for line in letter_lines(formula)], padding=(0, 3)),
        "",
        Text("Which sum is the largest, by batch size (down) and sequence length (across)"),
        "",
        _map(formula),
        *(Text(note, style="dim") for note in map_notes(formula)),
        "",
        *(Text(f"{head}\n   {terms}") for head, terms in winner_lines(formula)),
    ]
    return Group(*parts)


def _terms(formula: PeakFormula) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for justify in ("left", "left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_column(style="dim")
    for row in term_rows(formula.here):
        table.add_row(
            Text(row.symbols, "bold"), f"= {row.numbers}" if row.numbers else "", row.size, f"{row.share:.1%}", row.what
        )
    for name, size in sum_rows(formula):
        table.add_row(Text(name), "", Text(size, "bold"), "", "")
    return table


def _map(formula: PeakFormula) -> Table:
    head, *body = map_rows(formula)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in head:
        table.add_column(column, justify="right")
    for batch_size, *cells in body:
        table.add_row(Text(batch_size, "dim"), *(Text(cell, WINNER_STYLES.get(cell, "dim")) for cell in cells))
    return table
