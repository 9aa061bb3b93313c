from __future__ import annotations

import copy
from pathlib import Path

import pytest
from validation.campaign_generation import run_generation
from validation.campaign_groups import error_groups
from validation.campaign_jobs import find_job
from validation.campaign_live import LiveRow
from validation.campaign_machine import Machine
from validation.campaign_training import run_training
from validation.compare_records import (
    Row,
    Unforecast,
    compared,
    gpu_fields,
    main,
    probe_differences,
    records_table,
    summary,
)

from vramcast.measure.records import Record, append_record

GPU = {"name": "NVIDIA H200", "kind": "virtual", "total_memory_bytes": 143771 << 20}
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0"}
JOB = find_job("tiny-train-llama-bf16")


@pytest.fixture(scope="module")
def measured() -> Record:
    """A training job, measured on the virtual GPU."""
    readings = run_training(JOB, Machine("virtual", gpu="h200"), lambda: None)
    return Record(JOB.id, "training", JOB.to_dict(), readings, VERSIONS, GPU, "ok")


def _with(record: Record, **changes: object) -> Record:
    return Record(**{name: getattr(record, name) for name in Record.__slots__} | changes)


def test_the_campaigns_loop_is_the_recorders_loop(measured: Record, tmp_path: Path) -> None:
    append_record(tmp_path / "r.jsonl", measured)
    (row,) = records_table(tmp_path)
    assert row.predicted_allocated_bytes == row.measured_allocated_bytes > 0
    assert row.predicted_reserved_bytes == row.measured_reserved_bytes > 0
    assert set(row.instants) == {"after_load", "after_forward", "after_backward", "after_optimizer", "after_step"}
    assert all(found == predicted for found, predicted in row.instants.values())
    assert row.worst_percent == 0


def test_an_error_has_its_sign_and_the_worst_comes_first(measured: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_record(path, measured)
    append_record(
        path,
        _with(
            measured,
            id="another",
            readings=measured.readings | {"peak_allocated_bytes": measured.readings["peak_allocated_bytes"] * 2},
        ),
    )
    worst, exact = records_table(tmp_path)
    assert worst.allocated_percent == pytest.approx(-50)
    assert exact.allocated_percent == 0
    (allocated, reserved) = summary([worst, exact])
    assert (allocated["n"], allocated["median_percent"], allocated["within_1_percent"]) == (2, pytest.approx(25), 1)
    assert reserved["within_2_percent"] == 2
    assert (allocated["equal"], reserved["equal"]) == (1, 2)


def test_the_last_record_of_a_measurement_counts(measured: Record) -> None:
    failed = _with(measured, status="timeout", message="no answer")
    (row,) = compared([failed, measured])
    assert isinstance(row, Row)


def test_records_without_a_peak_say_why(measured: Record) -> None:
    failed = _with(measured, id="failed", status="oom", message="OutOfMemoryError: no\nmore")
    without = _with(measured, readings={"peak_allocated_bytes": None}, gpu={"name": "cpu"})
    assert list(compared([failed, without])) == [
        Unforecast("failed", "oom: OutOfMemoryError: no"),
        Unforecast(JOB.id, "measured on cpu, which has no CUDA allocator"),
    ]


def test_a_gpu_is_found_by_its_device_name_or_described_by_its_memory() -> None:
    assert gpu_fields({"name": "NVIDIA H200"}) == {"gpu": "h200"}
    assert gpu_fields({"name": "no such card", "total_memory_bytes": 24 << 30}) == {
        "gpu": "custom",
        "gpu_memory": "24576MiB",
    }


def test_a_probe_that_the_virtual_gpu_answers_alike_has_no_difference() -> None:
    from validation.campaign_probes import run_probe

    job = find_job("probe-cublas-bf16")
    readings = run_probe(job, Machine("virtual", gpu="h200"), lambda: None)
    record = Record(job.id, "probe", job.to_dict(), readings, VERSIONS, GPU, "ok")
    assert probe_differences(record) == []
    readings["answers"]["first_mm"]["persistent_bytes"] += 512
    (difference,) = probe_differences(record)
    assert difference[0] == "first_mm persistent_bytes"
    assert difference[1] == difference[2] + 512


def test_a_probe_of_a_card_that_is_not_known_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    job = find_job("probe-cublas-bf16")
    gpu = {"name": "no such card", "kind": "cuda", "total_memory_bytes": 24 << 30}
    append_record(tmp_path / "r.jsonl", Record(job.id, job.kind, job.to_dict(), {"answers": {}}, VERSIONS, gpu, "ok"))
    assert main([str(tmp_path), "--probes"]) == 0
    assert "probe-cublas-bf16: no forecast: gpu='no such card'" in capsys.readouterr().out


def test_the_table_is_printed(measured: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_record(tmp_path / "r.jsonl", measured)
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert JOB.id in printed
    assert "training" in printed
    assert "within 1 %: 1" in printed


def test_a_miss_is_printed_with_the_instants_that_differ_and_the_notes(
    measured: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = copy.deepcopy(measured.readings)
    readings["peak_allocated_bytes"] *= 2
    for mark in readings["marks"]:
        if mark["name"] == "after_forward":
            mark["allocated_bytes"] += 1 << 20
    readings["notes"]["loss_scale"] = 32768.0
    append_record(tmp_path / "r.jsonl", _with(measured, readings=readings))
    assert main([str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["loss_scale:", "32768.0"] in lines
    assert [line[0] for line in lines if line and line[-1] == "bytes"] == ["after_forward"]
    (after_forward,) = (line for line in lines if line and line[0] == "after_forward")
    assert after_forward[-2] == f"{-(1 << 20):,}"


def test_rows_are_made_for_measured_jobs_only(measured: Record) -> None:
    probe = _with(measured, kind="probe")
    (row,) = compared([probe, measured])
    assert isinstance(row, Row)


@pytest.mark.parametrize("name", ["tiny-llama-fp32-math", "tiny-gpt2-ckpt-full-sgd-momentum", "tiny-gen-gpt2-static"])
def test_the_cpus_live_tensors_are_compared(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    job = find_job(name)
    measure = run_training if job.kind == "training" else run_generation
    readings = measure(job, Machine("cpu"), lambda: None)
    record = Record(job.id, job.kind, job.to_dict(), readings, VERSIONS, {"name": "cpu", "kind": "cpu"}, "ok")
    (row,) = compared([record])
    assert isinstance(row, LiveRow)
    counters = 4 * 20 if "llama" in name else 0  # of AdamW, one for each parameter (the head is tied)
    assert row.measured_bytes == row.predicted_bytes + counters > 0
    assert row.worst_category == (f"optimizer_states -{counters} bytes" if counters else "")
    append_record(tmp_path / "cpu.jsonl", record)
    assert main([str(tmp_path)]) == 0
    assert "live tensors by kind of job" in capsys.readouterr().out


def test_errors_are_grouped_by_every_setting() -> None:
    jobs = [
        ("a", "training", {"model": "gpt2", "precision": "bf16"}, -4.0),
        ("b", "training", {"model": "gpt2"}, 1.0),
        ("c", "generation", {"model": "gpt2", "cache": "static"}, 0.0),
    ]
    groups = {(group.kind, group.setting, group.value): group for group in error_groups(jobs)}
    everything = groups["training", "all", ""]
    assert (everything.count, everything.median_percent, everything.worst_percent, everything.worst_id) == (
        2,
        2.5,
        4.0,
        "a",
    )
    assert groups["training", "precision", "fp32"].worst_id == "b"
    assert (groups["training", "all", ""].equal, groups["generation", "all", ""].equal) == (0, 1)
    assert groups["generation", "cache", "static"].count == 1
    assert ("generation", "optimizer", "adamw") not in groups
    assert next(iter(groups)) == ("training", "all", "")
