"""Shows comparisons as tables and as JSON."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from validation.published import UNITS, Published, why_not_forecast
from validation.running import Comparison
from validation.safety import Judged, all_judged, missed_safety, safeties
from validation.summary import missed_bars, summaries

EXPLAINED_ABOVE = 0.01
"""Errors above this are shown in colour, and their notes below the table."""


def split_rows(
    rows: Iterable[Published], expressible: Iterable[str]
) -> tuple[list[Published], list[tuple[Published, str]]]:
    """Rows that have a workload, and the others with the reason why not; each row is in exactly one of the two.

    Raises:
        ValueError: a workload names a row that is not in the file.
    """
    rows, expressible = list(rows), set(expressible)
    unknown = expressible - {row.id for row in rows}
    if unknown:
        raise ValueError(f"workloads for rows that do not exist: {', '.join(sorted(unknown))}")
    with_workload = [row for row in rows if row.id in expressible]
    return with_workload, [(row, why_not_forecast(row)) for row in rows if row.id not in expressible]


def print_report(
    console: Console, comparisons: Sequence[Comparison], excluded: Sequence[tuple[Published, str]]
) -> None:
    """Comparisons, notes, summary, safety, then every row without a forecast."""
    console.print(_comparison_table(comparisons))
    for comparison in comparisons:
        if comparison.failure:
            console.print(f"[red]{comparison.published.id} failed:[/] {comparison.failure}", highlight=False)
        elif comparison.result is not None and comparison.result.notes:
            console.print(f"{comparison.published.id}: {comparison.result.notes}", highlight=False)
    console.print(_summary_table(comparisons))
    _print_safety(console, all_judged(comparisons))
    _print_excluded(console, excluded)


def _comparison_table(comparisons: Iterable[Comparison]) -> Table:
    table = Table("id", "workload", "metric", title="Forecast beside published measurement")
    for column in ("predicted", "published"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("error %", justify="right", no_wrap=True)
    for comparison in comparisons:
        published, predicted = comparison.published, comparison.predicted_bytes
        table.add_row(
            published.id,
            published.workload,
            published.kind,
            "-" if predicted is None else in_unit(predicted, published.unit),
            in_unit(published.value_bytes, published.unit),
            published.unit,
            _error_text(comparison.error),
        )
    return table


def in_unit(nbytes: int, unit: str) -> str:
    """Bytes in the unit the source printed, with digits enough to see a MiB."""
    digits = {"GiB": 4, "GB": 3, "MiB": 3, "B": 0}[unit]
    return f"{nbytes / UNITS[unit]:.{digits}f}"


def _error_text(error: float | None) -> str:
    if error is None:
        return "[red]failed[/]"
    text = f"{100 * error:+.4f}"
    return f"[red]{text}[/]" if abs(error) > EXPLAINED_ABOVE else text


def _summary_table(comparisons: Iterable[Comparison]) -> Table:
    table = Table("metric", "n", "median |error| %", "within 0.5 %", "within 1 %", "within 2 %", title="Summary")
    for summary in summaries(comparisons):
        shares = (summary.within_half_percent, summary.within_one_percent, summary.within_two_percent)
        table.add_row(
            summary.kind, str(summary.count), f"{100 * summary.median_error:.4f}", *(f"{share:.0%}" for share in shares)
        )
    return table


def _print_safety(console: Console, rows: Sequence[Judged]) -> None:
    if not rows:
        return
    table = Table("id", "job", "figure", "grade", title="Interval beside published measurement, GiB")
    for column in ("low", "best", "published", "high"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("inside")
    for row in rows:
        figures = (row.low_bytes, row.best_bytes, row.published_bytes, row.high_bytes)
        inside = "yes" if row.is_inside else "[red]above[/]" if row.is_false_fit else "[red]below[/]"
        table.add_row(row.id, row.job, row.figure, row.grade, *(in_unit(figure, "GiB") for figure in figures), inside)
    console.print(table)
    table = Table("job", "figure", "grade", "rows", "inside", 'false "fits"', title="Safety")
    for column in ("mean width GiB", "% of reserved", "% inside PyTorch"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in safeties(rows):
        counts = (str(count) for count in (each.rows, each.inside, each.false_fits))
        shares = (f"{share:.2f}" for share in (each.width_percent, each.reserved_width_percent))
        table.add_row(each.job, each.figure, each.grade, *counts, in_unit(each.width_bytes, "GiB"), *shares)
    console.print(table)


def _print_excluded(console: Console, excluded: Sequence[tuple[Published, str]]) -> None:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row, reason in excluded:
        by_reason[reason].append(row.id)
    table = Table("reason", "n", "rows", title=f"Not forecast: {len(excluded)} rows", show_lines=True)
    for reason, ids in sorted(by_reason.items()):
        table.add_row(reason, str(len(ids)), " ".join(ids))
    console.print(table)


def to_dict(comparisons: Sequence[Comparison], excluded: Sequence[tuple[Published, str]]) -> dict[str, Any]:
    """The report as plain data; sizes are bytes, errors are relative."""
    rows = all_judged(comparisons)
    return {
        "schema_version": 1,
        "comparisons": [_comparison_dict(comparison) for comparison in comparisons],
        "summaries": [summary.to_dict() for summary in summaries(comparisons)],
        "not_forecast": [{"id": row.id, "grade": row.grade, "reason": reason} for row, reason in excluded],
        "missed_bars": missed_bars(comparisons),
        "safety": {
            "kinds": [each.to_dict() for each in safeties(rows)],
            "rows": [row.to_dict() for row in rows],
            "missed": missed_safety(rows),
        },
    }


def _comparison_dict(comparison: Comparison) -> dict[str, Any]:
    published, result = comparison.published, comparison.result
    return {
        "id": published.id,
        "workload": published.workload,
        "grade": published.grade,
        "metric": published.kind,
        "unit": published.unit,
        "predicted_bytes": comparison.predicted_bytes,
        "published_bytes": published.value_bytes,
        "error": comparison.error,
        "peak_allocated_bytes": None if result is None else result.peak_allocated_bytes,
        "peak_reserved_bytes": None if result is None else result.peak_reserved_bytes,
        "notes": "" if result is None else result.notes,
        "failure": comparison.failure,
    }
