"""The textbook as markdown."""

from collections.abc import Iterable

from vramcast.textbook import HalfPrecisionAnswer, KeptTensors, ModelTextbook, TextbookRow
from vramcast.views.textbook_rows import TextTable, half_precision_tables, model_textbook_tables, textbook_tables


def textbook_markdown(rows: Iterable[TextbookRow]) -> str:
    """Every figure of the documents beside the truth."""
    return _markdown(textbook_tables(rows))


def model_textbook_markdown(book: ModelTextbook) -> str:
    """Every formula at the sizes of one job beside its forecast."""
    return _markdown(model_textbook_tables(book))


def half_precision_markdown(answer: HalfPrecisionAnswer, tensors: Iterable[KeptTensors] = ()) -> str:
    """Why fp16 saves so little."""
    return _markdown(half_precision_tables(answer, tensors))


def _markdown(tables: list[TextTable]) -> str:
    return "\n".join(_table(table) for table in tables)


def _table(table: TextTable) -> str:
    marks = ["---:" if table.is_number(index) else "---" for index in range(len(table.columns))]
    lines = [f"## {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    lines += [_line(table.columns), _line(marks), *(_line(row) for row in table.rows), ""]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
