"""A measurement as a record, the form in which the accuracy report reads it."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vramcast.errors import InputError
from vramcast.measure.records import Record, append_record

if TYPE_CHECKING:
    from vramcast.measure.measurement import Measurement

_OF_THE_FORECAST = ("gpu", "gpu_memory")


def append_measurement(path: Path, measurement: Measurement) -> None:
    """Add a record to a JSON-lines file.

    Raises:
        InputError: the file cannot be written; it is as it was.
    """
    try:
        append_record(path, record_of(measurement))
    except OSError as error:
        raise InputError("record", str(path), f"cannot be written ({error.strerror}); the file is as it was") from error


def record_of(measurement: Measurement) -> Record:
    """The record of a measured job."""
    assert measurement.forecast is not None
    settings = {key: value for key, value in measurement.forecast.settings.items() if key not in _OF_THE_FORECAST}
    job: dict[str, Any] = {
        "model": measurement.forecast.model,
        "config": measurement.architecture,
        **{key: value for key, value in settings.items() if value is not None},
    }
    return Record(
        id=f"measure-{measurement.workload}-{_digest(job)}",
        kind=measurement.workload,
        job=job,
        readings=measurement.readings,
        versions=measurement.versions,
        gpu=measurement.device,
        status=measurement.status,
        message=measurement.message,
        seconds=measurement.seconds,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _digest(job: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:10]
