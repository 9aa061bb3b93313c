"""Reading the published rows, and the reasons for which rows are not forecast."""

import json
from pathlib import Path
from typing import Any

import pytest
from validation.published import DATA, load_rows, parse_row, why_not_forecast

from vramcast.units import GB, GIB, MIB


def fields(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "made-001",
        "workload": "train",
        "quote_context": "a run",
        "metric": "max_allocated",
        "value_bytes": 3 * GIB,
        "unit_note": "published 3 GiB; converted as GiB",
        "completeness": "A",
        "sharding": {"type": "none", "world_size": 1},
        "weight_dtype": "bf16",
        "optimizer": "AdamW",
        "compile": False,
        "extra": None,
    }
    return row | changes


def test_all_rows_of_both_files_are_there_once() -> None:
    rows = load_rows()
    assert [len(load_rows(path)) for path in DATA] == [404, 335]
    assert len(rows) == len({row.id for row in rows}) == 404 + 335
    assert all(row.value_bytes > 0 for row in rows)


@pytest.mark.parametrize(("id", "unit", "factor", "number"), [
    ("rasbt-001", "GiB", GIB, 26.2617),
    ("liger-011", "MiB", MIB, 6092.2822),
    ("litgpt-001", "GB", GB, 4.82),
    ("vc-007", "GB", GB, 17.51),
    ("fmsa-005n", "MiB", MIB, 77256),
    ("cmp-001", "GiB", GIB, 11.3),
    ("ctx-001", "GiB", GIB, 0.13),
    ("csw-t128r", "B", 1, 7_235_174_400),
])  # fmt: skip
def test_the_value_is_the_published_number_in_its_unit(id: str, unit: str, factor: int, number: float) -> None:
    row = next(row for row in load_rows() if row.id == id)
    assert row.unit == unit
    assert row.value_bytes == pytest.approx(number * factor, abs=1)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("max_allocated", "allocated"),
        ("max_reserved", "reserved"),
        ("nvidia_smi", "nvidia-smi"),
        ("nvidia-smi", "nvidia-smi"),
        ("allocated_after_forward", "allocated after forward"),
        ("outside_pytorch", "outside PyTorch"),
        ("unspecified", "unspecified"),
    ],
)
def test_metrics_get_their_plain_names(metric: str, kind: str) -> None:
    assert parse_row(fields(metric=metric)).kind == kind


@pytest.mark.parametrize(
    "changes", [{"metric": "max_active"}, {"unit_note": "published 3"}, {"unit_note": "converted as TB"}]
)
def test_a_row_that_cannot_be_read_is_named(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="made-001"):
        parse_row(fields(**changes))


def test_an_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(fields()) + "\n") * 2, encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        load_rows(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"completeness": "B"}, "graded B"),
        ({"sharding": {"type": "zero3", "world_size": 1}}, "DeepSpeed"),
        ({"sharding": {"type": "fsdp", "world_size": 8}}, "several GPUs"),
        ({"optimizer": "bnb Adam8bit"}, "bitsandbytes"),
        ({"weight_dtype": "nf4"}, "bitsandbytes"),
        ({"weight_dtype": "int8"}, "quantised"),
        ({"compile": True}, "torch.compile"),
        ({"compile": "thunder+inductor"}, "torch.compile"),
        ({"compile": "unknown"}, "no workload is written"),
        ({"sharding": {"type": "fsdp", "world_size": 8}, "compile": True}, "torch.compile"),
        ({"metric": "allocated_after_forward"}, "no peak"),
        ({"metric": "outside_pytorch", "completeness": "C"}, "without a job"),
        ({"extra": {"provider": "liger"}}, "Triton kernels of Liger"),
        ({"extra": {"provider": "megatron"}}, "no workload is written"),
        ({"extra": {"provider": "huggingface"}}, "no workload is written"),
        ({"workload": "kernel", "quote_context": "cce loss-fw, Gemma-2"}, "Triton"),
        ({}, "no workload is written"),
    ],
)
def test_each_kind_of_row_has_its_reason(changes: dict[str, Any], reason: str) -> None:
    assert reason in why_not_forecast(parse_row(fields(**changes)))


def test_grade_comes_before_all_other_reasons() -> None:
    assert "graded C" in why_not_forecast(parse_row(fields(completeness="C", compile=True)))
