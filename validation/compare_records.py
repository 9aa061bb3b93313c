"""Forecast beside measurement, for every record of the campaign: `python validation/compare_records.py [FOLDER]`.

Needs vramcast with its `record` extra. Training and generation jobs are forecast as a user would ask for them; probes
are answered again by the virtual GPU, and what differs is listed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "src")]

import vramcast  # noqa: E402
from validation.campaign_groups import error_groups, print_groups  # noqa: E402
from validation.campaign_jobs import CampaignJob  # noqa: E402
from validation.campaign_live import LiveRow, live_row, print_live_rows  # noqa: E402
from validation.campaign_rows import MISS_PERCENT, Row, print_rows  # noqa: E402
from vramcast.errors import VramcastError  # noqa: E402
from vramcast.hardware import find_gpu  # noqa: E402
from vramcast.measure.records import Record, read_records  # noqa: E402

RECORDS = Path(__file__).with_name("records")
_MIB = 1 << 20
_SUMMARY = (
    "{kind:10} {quantity:9} n={n}, equal: {equal}, median {median_percent:.3f} %, "
    "within 1 %: {within_1_percent}, within 2 %: {within_2_percent}"
)


@dataclass(frozen=True, slots=True)
class Unforecast:
    """A record without a forecast, and why."""

    id: str
    reason: str


def records_table(folder: str | Path) -> list[Row]:
    """A row for each measured training and generation job in the `*.jsonl` files of `folder`, the worst miss first."""
    rows = [found for found in compared(_records(Path(folder))) if isinstance(found, Row)]
    return sorted(rows, key=lambda row: row.worst_percent, reverse=True)


def compared(records: Iterable[Record]) -> Iterator[Row | LiveRow | Unforecast]:
    """A row for every training and generation record, or the reason why there is none; of a CPU's one of live tensors."""
    for record in _latest(records):
        if record.kind == "probe":
            continue
        if record.status != "ok":
            yield Unforecast(record.id, f"{record.status}: {record.message.splitlines()[0] if record.message else ''}")
        elif "live" in record.readings and record.readings.get("peak_allocated_bytes") is None:
            with _model_file(record) as (model, options):
                yield live_row(record, model, options)
        elif record.readings.get("peak_allocated_bytes") is None:
            yield Unforecast(record.id, f"measured on {record.gpu['name']}, which has no CUDA allocator")
        else:
            yield _row(record)


def _latest(records: Iterable[Record]) -> Iterable[Record]:
    """The last record of each measurement: a failure that was tried again counts no more."""
    return {record.key: record for record in records}.values()


def _row(record: Record) -> Row | Unforecast:
    try:
        forecast = forecast_of(record)
    except VramcastError as error:
        return Unforecast(record.id, str(error))
    readings = record.readings
    predicted = {instant.name: instant.allocated_bytes for instant in forecast.instants}
    measured = {mark["name"]: mark["allocated_bytes"] for mark in readings["marks"]}
    return Row(
        id=record.id,
        kind=record.kind,
        gpu=record.gpu["name"],
        versions=f"torch {record.versions['torch']}, transformers {record.versions['transformers']}",
        measured_allocated_bytes=readings["peak_allocated_bytes"],
        predicted_allocated_bytes=forecast.peak_allocated_bytes,
        measured_reserved_bytes=readings["peak_reserved_bytes"],
        predicted_reserved_bytes=forecast.peak_reserved_bytes,
        measured_device_used_bytes=readings.get("device_used_bytes"),
        predicted_device_used_bytes=forecast.device_used_bytes,
        instants={name: (nbytes, predicted[name]) for name, nbytes in measured.items() if name in predicted},
        job=record.job,
        notes=readings["notes"],
    )


def forecast_of(record: Record) -> Any:
    """What vramcast says of the record's job on the record's GPU."""
    ask = vramcast.training if record.kind == "training" else vramcast.generation
    with _model_file(record) as (model, options):
        return ask(model, offline=True, **options, **gpu_fields(record.gpu))


@contextmanager
def _model_file(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path of the job's config.json, and the fields of vramcast's job."""
    job = CampaignJob(record.id, "training", fields=record.job)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(job.config()), encoding="utf-8")
        yield str(config), job.options()


def gpu_fields(gpu: dict[str, Any]) -> dict[str, Any]:
    """The `gpu` of a forecast: the row of that device name, else a custom card of that size."""
    try:
        return {"gpu": find_gpu(gpu["name"]).name}
    except VramcastError:
        return {"gpu": "custom", "gpu_memory": f"{gpu['total_memory_bytes'] // _MIB}MiB"}


def probe_differences(record: Record) -> list[tuple[str, Any, Any]]:
    """(question, measured, forecast) wherever the virtual GPU answers a probe otherwise than the real one did.

    Raises:
        UnknownGPUError: the hardware file has no such card.
    """
    from validation.campaign_machine import Machine
    from validation.campaign_probes import run_probe

    job = CampaignJob(record.id, "probe", fields=record.job)
    gpu = find_gpu(record.gpu["name"]).name
    machine = Machine("virtual", gpu=gpu, expandable_segments=job.expandable_segments)
    predicted = dict(_leaves(run_probe(job, machine, lambda: None)["answers"]))
    measured = dict(_leaves(record.readings["answers"]))
    questions = dict.fromkeys([*measured, *predicted])
    return [
        (name, measured.get(name), predicted.get(name))
        for name in questions
        if measured.get(name) != predicted.get(name)
    ]


def _leaves(answers: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(answers, dict):
        # The wording of a refusal is not ours to forecast.
        yield (path, "refused") if path.endswith("refused") else (path, answers)
        return
    for key, value in answers.items():
        yield from _leaves(value, f"{path} {key}".strip())


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """Per kind of job and quantity: how many, the median error, and how many are equal, within 1 % and within 2 %."""
    lines = []
    for kind in sorted({row.kind for row in rows}):
        for quantity in ("allocated", "reserved"):
            errors = [abs(getattr(row, f"{quantity}_percent")) for row in rows if row.kind == kind]
            lines.append(
                {
                    "kind": kind,
                    "quantity": quantity,
                    "n": len(errors),
                    "equal": errors.count(0),
                    "median_percent": statistics.median(errors),
                    "within_1_percent": sum(error <= 1 for error in errors),
                    "within_2_percent": sum(error <= MISS_PERCENT for error in errors),
                }
            )
    return lines


def _records(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else [folder]:
        yield from read_records(path)


def main(arguments: list[str] | None = None) -> int:
    """Print misses first, then all rows, the summary, and the probes' differences."""
    parser = argparse.ArgumentParser(description="Forecast beside measurement for the campaign's records.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=RECORDS, help="folder of *.jsonl files, or one such file"
    )
    parser.add_argument("--probes", action="store_true", help="also answer the probes again on the virtual GPU")
    options = parser.parse_args(arguments)
    records = list(_records(options.folder))
    if not records:
        print(f"no records in {options.folder}: run validation/campaign.py on a machine with a GPU first")
        return 0
    found = list(compared(records))
    rows = sorted((row for row in found if isinstance(row, Row)), key=lambda row: row.worst_percent, reverse=True)
    for versions in sorted({row.versions for row in rows}):
        print(
            f"measured with {versions}; forecast with torch {version('torch')}, transformers {version('transformers')}"
        )
    if rows:
        print_rows(rows)
    for missing in found:
        if isinstance(missing, Unforecast):
            print(f"no forecast: {missing.id}: {missing.reason}")
    for line in summary(rows):
        print(_SUMMARY.format(**line))
    _print_errors_by_kind(rows, [row for row in found if isinstance(row, LiveRow)])
    if options.probes:
        _print_probes(record for record in _latest(records) if record.kind == "probe" and record.status == "ok")
    return 0


def _print_errors_by_kind(rows: list[Row], live_rows: list[LiveRow]) -> None:
    for quantity in ("allocated", "reserved"):
        if rows:
            errors = [(row.id, row.kind, row.job, getattr(row, f"{quantity}_percent")) for row in rows]
            print_groups(f"peak {quantity} by kind of job", error_groups(errors))
    if live_rows:
        print_live_rows(live_rows)
        errors = [(row.id, row.kind, row.job, row.percent) for row in live_rows]
        print_groups("live tensors by kind of job", error_groups(errors))


def _print_probes(records: Iterable[Record]) -> None:
    for record in records:
        if record.job["probe"] == "replay":
            _print_replay(record)
            continue
        try:
            differences = probe_differences(record)
        except VramcastError as error:
            print(f"{record.id}: no forecast: {error}")
            continue
        print(f"{record.id}: {len(differences)} differences")
        for name, measured, predicted in differences:
            print(f"    {name}: measured {measured}, forecast {predicted}")


def _print_replay(record: Record) -> None:
    """A replay probe has compared both allocators already."""
    answers = record.readings["answers"]
    print(f"{record.id}: {answers['differences']} segments differ after {answers['entries']} entries")
    for quantity in ("allocated", "reserved"):
        measured, replayed = (answers[f"{side}_peak_{quantity}_bytes"] for side in ("measured", "replayed"))
        print(f"    peak {quantity}: measured {measured}, replayed {replayed}")


if __name__ == "__main__":
    sys.exit(main())
