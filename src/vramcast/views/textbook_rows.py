"""The textbook as plain tables of text: claim, truth, error and reason, for the terminal and for markdown."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from vramcast.textbook import (
    HalfPrecisionAnswer,
    KeptTensors,
    ModelTextbook,
    TextbookRow,
    all_documents,
    format_value,
)
from vramcast.views.rows import CATEGORY_NAMES

FIGURE_COLUMNS = ("figure", "claim", "truth", "error", "mark", "why")
FORMULA_COLUMNS = ("formula", "says", "truth", "error", "why")
PRECISION_COLUMNS = ("batch", "what", "fp32", "fp16 autocast", "saved")
TENSOR_COLUMNS = ("operator", "dtype", "fp32", "fp16 autocast")
_TEXT_COLUMNS = {"mark", "figure", "formula", "why", "what", "operator", "dtype"}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A titled table; every cell is text as it is to be shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def is_number(self, column: int) -> bool:
        """Whether a column is set flush right."""
        return self.columns[column] not in _TEXT_COLUMNS


def textbook_tables(rows: Iterable[TextbookRow]) -> list[TextTable]:
    """One table for each section of each document, in the order of the rows."""
    titles = {document.name: f"{document.title} ({document.source})" for document in all_documents()}
    tables, seen = [], set()
    for (document, section), group in groupby(rows, key=lambda row: (row.figure.document, row.figure.section)):
        note = "" if document in seen else titles[document]
        seen.add(document)
        tables.append(TextTable(section, FIGURE_COLUMNS, tuple(_figure_cells(row) for row in group), note))
    return tables


def model_textbook_tables(book: ModelTextbook) -> list[TextTable]:
    """One table for each document: its formulas at this job's sizes; then those that say nothing about the job."""
    titles = {document.name: document.title for document in all_documents()}
    tables = [
        TextTable(titles[document], FORMULA_COLUMNS, tuple(_formula_cells(row) for row in group))
        for document, group in groupby(book.rows, key=lambda row: row.figure.document)
    ]
    if book.not_applicable:
        cells = tuple(
            (f"{left.formula.name.replace('_', ' ')} = {left.formula.text}", left.reason)
            for left in book.not_applicable
        )
        tables.append(TextTable("Formulas that say nothing about this job", ("formula", "why"), cells))
    return tables


def half_precision_tables(answer: HalfPrecisionAnswer, tensors: Iterable[KeptTensors] = ()) -> list[TextTable]:
    """Categories in both precisions, how activations grow with the batch, and the tensors kept, where they are given."""
    categories = tuple(
        (
            str(row.batch_size),
            CATEGORY_NAMES.get(row.category, row.category),
            _size(row.fp32_bytes),
            _size(row.fp16_bytes),
            _size(row.saved_bytes),
        )
        for row in answer.rows
    )
    growth = tuple((line.precision, _size(line.per_sequence_bytes), _size(line.fixed_bytes)) for line in answer.growth)
    kept = tuple((row.operator, row.dtype, _size(row.fp32_bytes), _size(row.fp16_bytes)) for row in tensors)
    tables = [
        TextTable("Why fp16 saves so little", PRECISION_COLUMNS, categories, answer.sentence),
        TextTable("Activations", ("precision", "each sequence", "without any"), growth),
    ]
    return [*tables, TextTable("Kept for backward", TENSOR_COLUMNS, kept)] if kept else tables


def error_text(row: TextbookRow) -> str:
    """`-6.1%`, `+53 points` between shares, `fits` or `does not fit` of a card; empty without a truth."""
    if row.holds is not None:
        return "fits" if row.holds else "does not fit"
    if row.error is None:
        return ""
    if row.unit == "share":
        return f"{100 * row.error:+.0f} points"
    return f"{row.error:+.1%}" if abs(row.error) < 1 else f"{row.error:+,.0%}"


def _figure_cells(row: TextbookRow) -> tuple[str, ...]:
    figure = row.figure
    claim = f"{figure.claim.text} (measured)" if figure.measured else figure.claim.text
    name = f"{figure.name} = {figure.formula_text}" if figure.formula_text else figure.name
    mark = {True: "true", False: "false", None: ""}[row.is_true]
    return name, claim, row.true_text, error_text(row), mark, _sentences(figure.arithmetic_note, row.reason)


def _formula_cells(row: TextbookRow) -> tuple[str, ...]:
    figure = row.figure
    departures = f"does not hold here: {'; '.join(row.departures)}" if row.departures else ""
    name = f"{figure.name} = {figure.formula_text}"
    return name, figure.claim.text, row.true_text, error_text(row), _sentences(departures, row.reason)


def _sentences(*parts: str) -> str:
    return ". ".join(part[0].upper() + part[1:] for part in parts if part)


def _size(nbytes: int) -> str:
    return format_value(nbytes, "bytes")
