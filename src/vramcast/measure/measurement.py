"""What a measurement comes to: readings beside the forecast, and why the two may differ."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from vramcast.forecast import Forecast
from vramcast.result import Result


class Comparison(Result):
    """One quantity, forecast and measured, in bytes."""

    name: str
    forecast_bytes: int | None
    measured_bytes: int | None

    @property
    def error(self) -> float | None:
        """(forecast - measured) / measured; None where one of the two is missing or nothing was measured."""
        if self.forecast_bytes is None or not self.measured_bytes:
            return None
        return (self.forecast_bytes - self.measured_bytes) / self.measured_bytes

    def to_dict(self) -> dict[str, Any]:
        """Both figures and the error."""
        return {**self.model_dump(mode="json"), "error": self.error}


class Measurement(Result):
    """A job that was forecast and then run."""

    workload: Literal["training", "generation", "code"]
    status: Literal["ok", "oom"] = "ok"
    message: str = ""
    """Of the error, where the device ran out of memory."""
    device: dict[str, Any]
    """Name, kind (`cuda` or `cpu`) and, of a GPU, its memory and compute capability."""
    versions: dict[str, str]
    forecast: Forecast | None
    """None where nothing was forecast: code of other people."""
    peaks: tuple[Comparison, ...]
    categories: tuple[Comparison, ...] = ()
    """Live tensors at their peak, by category; sizes are those of the storages."""
    instants: tuple[Comparison, ...] = ()
    """Allocated at named instants, where there is an allocator."""
    architecture: dict[str, Any] = Field(default_factory=dict)
    """The fields of the model's config.json, so that a record can be forecast again."""
    readings: dict[str, Any] = Field(default_factory=dict)
    """Everything that was read; the form is that of the records (see `validation/records/README.md`)."""
    notes: tuple[str, ...] = ()
    """What the comparison cannot know, or why the figures differ by nature."""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; every size is an int of bytes."""
        plain = self.model_dump(mode="json", exclude={"forecast", "peaks", "categories", "instants"})
        compared = {
            name: [row.to_dict() for row in getattr(self, name)] for name in ("peaks", "categories", "instants")
        }
        return {"forecast": None if self.forecast is None else self.forecast.to_dict(), **compared, **plain}


_ALLOCATOR_PEAKS = {
    "peak_allocated_bytes": "peak_allocated_bytes",
    "peak_reserved_bytes": "peak_reserved_bytes",
    "device_used_bytes": "process_used_bytes",
}
"""Field of the forecast -> reading it is compared with."""


def compare_peaks(forecast: Forecast | None, readings: dict[str, Any]) -> tuple[Comparison, ...]:
    """Peaks of the allocator and what the driver counts for this process; those without a reading are left out."""
    return tuple(
        Comparison(
            name=name,
            forecast_bytes=None if forecast is None else getattr(forecast, name),
            measured_bytes=readings[reading],
        )
        for name, reading in _ALLOCATOR_PEAKS.items()
        if readings.get(reading) is not None
    )


def compare_instants(forecast: Forecast | None, marks: list[dict[str, Any]]) -> tuple[Comparison, ...]:
    """Allocated when each mark was last passed."""
    measured = {mark["name"]: mark["allocated_bytes"] for mark in marks}
    expected = {} if forecast is None else {instant.name: instant.allocated_bytes for instant in forecast.instants}
    return tuple(
        Comparison(name=name, forecast_bytes=expected.get(name), measured_bytes=nbytes)
        for name, nbytes in measured.items()
    )


def compare_live(
    forecast: dict[str, Any] | None, measured: dict[str, Any]
) -> tuple[Comparison, tuple[Comparison, ...]]:
    """Live tensors at their peak, in all and by category; both arguments are those of `LiveReadings.to_dict`."""
    expected = {} if forecast is None else forecast["breakdown"]
    peak = Comparison(
        name="peak_live_bytes",
        forecast_bytes=None if forecast is None else forecast["peak_bytes"],
        measured_bytes=measured["peak_bytes"],
    )
    categories = tuple(
        Comparison(
            name=name,
            forecast_bytes=None if forecast is None else expected.get(name, 0),
            measured_bytes=measured["breakdown"].get(name, 0),
        )
        for name in dict.fromkeys([*measured["breakdown"], *expected])
    )
    return peak, categories
