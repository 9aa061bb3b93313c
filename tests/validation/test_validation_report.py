"""The two lists of rows, the arithmetic of comparisons and summaries, tables and JSON."""

import io
import json

import pytest
from rich.console import Console
from test_published_rows import fields
from validation.published import Published, load_rows, parse_row
from validation.report import in_unit, print_report, split_rows, to_dict
from validation.running import Comparison, compare, predicted_bytes
from validation.summary import missed_bars, summarize
from validation.workloads import discover
from validation.workloads.result import WorkloadResult

from vramcast.units import GB, GIB, MIB

RESULT = WorkloadResult(peak_allocated_bytes=100, peak_reserved_bytes=200, device_extra_bytes=30)


def comparison(error: float, *, metric: str = "max_allocated", grade: str = "A", id: str = "made-001") -> Comparison:
    published = parse_row(fields(id=id, metric=metric, completeness=grade, value_bytes=1_000_000))
    predicted = round(1_000_000 * (1 + error))
    return Comparison(published, WorkloadResult(predicted, predicted))


def test_every_row_is_in_exactly_one_of_the_two_lists() -> None:
    rows = load_rows()
    with_workload, excluded = split_rows(rows, discover())
    listed = [row.id for row in with_workload] + [row.id for row, _ in excluded]
    assert sorted(listed) == sorted(row.id for row in rows)
    assert all(reason for _, reason in excluded)


def test_no_workload_is_of_a_row_whose_inputs_are_loose_or_whose_figure_is_not_said() -> None:
    with_workload, _ = split_rows(load_rows(), discover())
    assert {row.grade for row in with_workload} == {"A", "B"}
    assert {row.kind for row in with_workload} == {"allocated", "reserved", "nvidia-smi"}


def test_a_workload_for_a_row_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere-001"):
        split_rows(load_rows(), ["nowhere-001"])


@pytest.mark.parametrize(("metric", "expected"), [("max_allocated", 100), ("max_reserved", 200), ("nvidia_smi", 230)])
def test_each_metric_takes_its_figure_of_the_result(metric: str, expected: int) -> None:
    assert predicted_bytes(parse_row(fields(metric=metric)), RESULT) == expected


def test_a_row_without_a_metric_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="made-001"):
        predicted_bytes(parse_row(fields(metric="unspecified")), RESULT)


def test_the_error_is_signed_and_relative_to_the_published_value() -> None:
    published = parse_row(fields(value_bytes=80))
    assert Comparison(published, RESULT).error == pytest.approx(0.25)
    assert Comparison(parse_row(fields(value_bytes=125)), RESULT).error == pytest.approx(-0.2)


def test_a_workload_that_raises_becomes_a_failed_row() -> None:
    def broken(row: dict[str, object]) -> WorkloadResult:
        raise RuntimeError("no such operator")

    failed = compare(parse_row(fields()), broken)
    assert (failed.result, failed.error, failed.failure) == (None, None, "RuntimeError: no such operator")
    assert missed_bars([failed])[0] == "made-001 failed: RuntimeError: no such operator"


def test_a_summary_takes_medians_and_shares_of_absolute_errors() -> None:
    comparisons = [comparison(error) for error in (0.001, -0.004, 0.008, -0.015, 0.5)]
    comparisons.append(comparison(0.9, metric="max_reserved"))
    summary = summarize(comparisons, "allocated")
    assert summary is not None
    assert summary.count == 5
    assert summary.median_error == pytest.approx(0.008)
    shares = (summary.within_half_percent, summary.within_one_percent, summary.within_two_percent)
    assert shares == (0.4, 0.6, 0.8)
    assert summarize(comparisons, "nvidia-smi") is None


def test_bars_are_missed_by_median_and_by_share() -> None:
    good = [comparison(0.001)] * 19
    assert missed_bars([*good, comparison(0.5)]) == []
    assert ["90.5%" in sentence for sentence in missed_bars([*good, comparison(0.5), comparison(0.5)])] == [True]
    assert "median error of allocated is 0.300%" in missed_bars([comparison(0.003)])[0]
    assert missed_bars([comparison(0.004, metric="max_reserved")]) == []


def test_only_grade_a_counts_for_the_bars_and_nothing_compared_is_a_miss() -> None:
    assert missed_bars([comparison(0.5, grade="B"), comparison(0.0)]) == []
    assert missed_bars([comparison(0.0, grade="B")]) == ["no row was compared"]


@pytest.mark.parametrize(
    ("nbytes", "unit", "text"),
    [(3 * GIB // 2, "GiB", "1.5000"), (5 * MIB, "MiB", "5.000"), (12 * GB // 10, "GB", "1.200"), (7, "B", "7")],
)
def test_sizes_are_shown_in_the_unit_of_the_source(nbytes: int, unit: str, text: str) -> None:
    assert in_unit(nbytes, unit) == text


def test_the_report_names_every_row_and_the_json_keeps_bytes() -> None:
    comparisons = [comparison(0.25, id="made-001"), Comparison(parse_row(fields(id="made-002")), None, "KeyError: 'x'")]
    excluded: list[tuple[Published, str]] = [(parse_row(fields(id="made-003")), "a reason")]
    text = io.StringIO()
    print_report(Console(file=text, width=160), comparisons, excluded)
    for expected in ("made-001", "made-002 failed", "made-003", "a reason", "+25.0000"):
        assert expected in text.getvalue()
    report = json.loads(json.dumps(to_dict(comparisons, excluded)))
    assert [entry["predicted_bytes"] for entry in report["comparisons"]] == [1_250_000, None]
    assert report["not_forecast"] == [{"id": "made-003", "grade": "A", "reason": "a reason"}]
    assert len(report["missed_bars"]) == 3
