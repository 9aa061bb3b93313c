"""A measurement as plain rows: forecast, measured, error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vramcast.units import format_bytes
from vramcast.views.rows import CATEGORY_NAMES, INSTANT_NAMES

if TYPE_CHECKING:
    from vramcast.measure.measurement import Comparison, Measurement

PEAK_NAMES = {
    "peak_allocated_bytes": "peak allocated",
    "peak_reserved_bytes": "peak reserved",
    "device_used_bytes": "device used by this process",
    "peak_live_bytes": "peak of live tensors",
}


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """Texts of one line; empty where there is no figure."""

    name: str
    forecast: str
    measured: str
    error: str


def peak_rows(measurement: Measurement) -> list[ComparedRow]:
    """Peaks, forecast beside measured; no error where the run ended before its peak."""
    rows = [_row(PEAK_NAMES[peak.name], peak) for peak in measurement.peaks]
    return rows if measurement.status == "ok" else [replace(row, error="") for row in rows]


def category_rows(measurement: Measurement) -> list[ComparedRow]:
    """Live tensors at their peak, by category."""
    return [_row(CATEGORY_NAMES[category.name], category) for category in measurement.categories]


def instant_rows(measurement: Measurement) -> list[ComparedRow]:
    """Allocated at named instants."""
    return [_row(f"allocated {INSTANT_NAMES[row.name]}", row) for row in measurement.instants]


def device_line(measurement: Measurement) -> str:
    """What was run and where: `training of gpt2 on cpu, torch 2.13.0, 3.1 s`."""
    what = measurement.workload if measurement.forecast is None else _what(measurement)
    return f"{what} on {measurement.device['name']}, torch {measurement.versions['torch']}, {measurement.seconds:.1f} s"


def _what(measurement: Measurement) -> str:
    assert measurement.forecast is not None
    return f"{measurement.workload} of {measurement.forecast.model}"


def _row(name: str, row: Comparison) -> ComparedRow:
    return ComparedRow(name, _size(row.forecast_bytes), _size(row.measured_bytes), error_text(row.error))


def _size(nbytes: int | None) -> str:
    return "" if nbytes is None else format_bytes(nbytes)


def error_text(error: float | None) -> str:
    """`+0.03 %`: positive where too much was forecast."""
    return "" if error is None else f"{100 * error:+.2f} %"
