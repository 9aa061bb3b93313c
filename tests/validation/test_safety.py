"""Intervals beside published figures, and what of them is a false "fits"."""

from typing import Any

import pytest
from test_published_rows import fields
from validation.published import parse_row
from validation.running import Comparison, predicted_bytes
from validation.safety import Judged, judged, kind_of_job, missed_safety, safeties
from validation.workloads.result import WorkloadResult

from vramcast.forecast.room import Room
from vramcast.forecast.uncertainty import Spread
from vramcast.hardware import find_gpu
from vramcast.units import GIB

RESERVED = 40 * GIB
ROOM = Room(find_gpu("a100-80gb"), Spread("one GPU", -0.01, 0.005, "made"))


def row(published: float, *, metric: str = "max_reserved", context: int | None = None, **changes: Any) -> Judged | None:
    line = parse_row(fields(metric=metric, value_bytes=int(published), **changes))
    return judged(Comparison(line, WorkloadResult(RESERVED, RESERVED, device_extra_bytes=context, room=ROOM)))


@pytest.mark.parametrize(
    ("share", "inside", "false_fit"),
    [(1.0, True, False), (1.005, True, False), (1.0051, False, True), (0.9901, True, False), (0.9899, False, False)],
)
def test_a_figure_above_the_high_end_is_a_false_fit(share: float, inside: bool, false_fit: bool) -> None:
    each = row(RESERVED * share)
    assert each is not None
    assert (each.is_inside, each.is_false_fit) == (inside, false_fit)
    assert each.reserved_width_bytes == pytest.approx(0.015 * RESERVED, abs=2)


def test_nvidia_smi_takes_the_products_own_context() -> None:
    each = row(RESERVED + ROOM.outside_bytes, metric="nvidia_smi")
    assert each is not None
    assert each.best_bytes == each.published_bytes
    assert each.low_bytes <= RESERVED * 0.99 + ROOM.context.low_bytes + 1
    assert each.high_bytes >= RESERVED * 1.005 + ROOM.context.high_bytes - 1
    assert each.reserved_width_bytes < each.high_bytes - each.low_bytes


def test_a_published_context_stands_for_it_and_is_named() -> None:
    each = row(RESERVED + GIB, metric="nvidia_smi", context=GIB)
    assert each is not None
    assert (each.figure, each.best_bytes) == ("nvidia-smi, context published", RESERVED + GIB)
    assert each.high_bytes - each.low_bytes == each.reserved_width_bytes


def test_without_a_published_context_the_accuracy_table_takes_the_products() -> None:
    line = parse_row(fields(metric="nvidia_smi"))
    assert predicted_bytes(line, WorkloadResult(1, RESERVED, room=ROOM)) == RESERVED + ROOM.outside_bytes
    assert predicted_bytes(line, WorkloadResult(1, RESERVED, device_extra_bytes=7, room=ROOM)) == RESERVED + 7


def test_allocated_figures_and_failed_workloads_have_no_interval() -> None:
    assert row(RESERVED, metric="max_allocated") is None
    assert judged(Comparison(parse_row(fields(metric="max_reserved")), None, "failed")) is None
    assert judged(Comparison(parse_row(fields(metric="max_reserved")), WorkloadResult(1, 1))) is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "one GPU, training"),
        ({"workload": "lora"}, "one GPU, training"),
        ({"workload": "prefill"}, "one GPU, generation"),
        ({"workload": "kernel"}, "one GPU, kernel"),
        ({"workload": "generate", "sharding": {"type": "tp", "world_size": 2}}, "several GPUs"),
    ],
)
def test_kinds_of_jobs(changes: dict[str, Any], kind: str) -> None:
    assert kind_of_job(parse_row(fields(**changes))) == kind


def test_counts_and_widths_by_kind_and_grade() -> None:
    rows = [row(RESERVED * share) for share in (1.0, 1.1, 0.9)] + [row(RESERVED * 1.1, completeness="B")]
    kinds = safeties([each for each in rows if each is not None])
    counted = [(each.job, each.grade, each.rows, each.inside, each.false_fits) for each in kinds]
    assert counted == [
        ("one GPU, training", "A", 3, 1, 1),
        ("one GPU, training", "B", 1, 0, 1),
        ("all", "A", 3, 1, 1),
        ("all", "B", 1, 0, 1),
    ]
    assert kinds[0].width_percent == pytest.approx(1.5)
    assert safeties([]) == []


def test_false_fits_and_too_few_inside_are_missed_by_rows_graded_a_alone() -> None:
    inside, above, below = (each for share in (1.0, 1.1, 0.9) if (each := row(RESERVED * share)) is not None)
    assumed = row(RESERVED * 1.1, completeness="B")
    assert assumed is not None
    assert missed_safety([]) == missed_safety([inside, assumed]) == []
    assert len(missed_safety([inside] * 99 + [above])) == 1
    assert missed_safety([inside] * 18 + [below]) == ["18 of 19 rows lie inside their interval, the bar is 95%"]
    assert missed_safety([inside] * 19 + [below]) == []
