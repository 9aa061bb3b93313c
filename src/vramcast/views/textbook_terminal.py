"""The textbook on the terminal: what the guides claim beside what is true, and why."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vramcast.textbook import HalfPrecisionAnswer, KeptTensors, ModelTextbook, TextbookRow
from vramcast.views.textbook_rows import TextTable, half_precision_tables, model_textbook_tables, textbook_tables


def print_textbook(rows: Iterable[TextbookRow], console: Console) -> None:
    """Print every figure of the documents beside the truth."""
    _print(textbook_tables(rows), console)


def print_model_textbook(book: ModelTextbook, console: Console) -> None:
    """Print every formula at the sizes of one job beside its forecast."""
    _print(model_textbook_tables(book), console)


def print_half_precision(answer: HalfPrecisionAnswer, console: Console, tensors: Iterable[KeptTensors] = ()) -> None:
    """Print why fp16 saves so little."""
    _print(half_precision_tables(answer, tensors), console)


def _print(tables: list[TextTable], console: Console) -> None:
    for table in tables:
        if table.note:
            console.print(Text(table.note, style="dim"))
        console.print(_rendered(table))
        console.print()


def _rendered(table: TextTable) -> Table:
    rendered = Table(title=Text(table.title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, column in enumerate(table.columns):
        if table.is_number(index):
            rendered.add_column(column, justify="right", no_wrap=True)
        else:
            # The reason is the longest text and takes what room is left.
            rendered.add_column(column, ratio=3 if column == "why" else 2, overflow="fold")
    for row in table.rows:
        rendered.add_row(*(Text(cell) for cell in row))
    return rendered
