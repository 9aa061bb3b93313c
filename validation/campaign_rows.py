"""Records of a GPU: forecast beside measurement, and where in a job a miss begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MISS_PERCENT = 2.0
"""An error above it is marked, and its instants are shown."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One record and its forecast, in bytes; a percentage is signed, positive where too much was forecast."""

    id: str
    kind: str
    gpu: str
    versions: str
    measured_allocated_bytes: int
    predicted_allocated_bytes: int
    measured_reserved_bytes: int
    predicted_reserved_bytes: int
    measured_device_used_bytes: int | None
    predicted_device_used_bytes: int
    instants: dict[str, tuple[int, int]]
    """Mark -> (measured, predicted) bytes allocated when it was last passed."""
    job: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """What the measurement had to say besides."""

    @property
    def allocated_percent(self) -> float:
        """Error of the allocated peak."""
        return _percent(self.predicted_allocated_bytes, self.measured_allocated_bytes)

    @property
    def reserved_percent(self) -> float:
        """Error of the reserved peak."""
        return _percent(self.predicted_reserved_bytes, self.measured_reserved_bytes)

    @property
    def worst_percent(self) -> float:
        """The larger of both errors, without its sign."""
        return max(abs(self.allocated_percent), abs(self.reserved_percent))


def _percent(predicted: int, measured: int) -> float:
    return 100 * (predicted - measured) / measured


def print_rows(rows: Sequence[Row]) -> None:
    """Sizes in MiB; below a miss, which has an exclamation mark, the instants that differ and the job's notes."""
    peaks = f"{'measured':>13}{'forecast':>13}{'%':>9}"
    print(f"{'MiB':40}{'allocated:':>12}{peaks}{'reserved:':>12}{peaks}{'used:':>8}{'measured':>11}{'forecast':>11}")
    for row in rows:
        used = "" if row.measured_device_used_bytes is None else f"{row.measured_device_used_bytes / _MIB:.1f}"
        columns = [
            f"{row.id:40}{'!' if row.worst_percent > MISS_PERCENT else '':>12}",
            f"{row.measured_allocated_bytes / _MIB:13.2f}{row.predicted_allocated_bytes / _MIB:13.2f}",
            f"{row.allocated_percent:+9.3f}{'':12}",
            f"{row.measured_reserved_bytes / _MIB:13.2f}{row.predicted_reserved_bytes / _MIB:13.2f}",
            f"{row.reserved_percent:+9.3f}{'':8}{used:>11}{row.predicted_device_used_bytes / _MIB:11.1f}",
        ]
        print("".join(columns))
        if row.worst_percent > MISS_PERCENT:
            _print_miss(row)


def _print_miss(row: Row) -> None:
    for name, (measured, predicted) in row.instants.items():
        if measured != predicted:
            print(
                f"    {name:36}{'':12}{measured / _MIB:13.2f}{predicted / _MIB:13.2f}{predicted - measured:+16,} bytes"
            )
    for name, note in row.notes.items():
        print(f"    {name}: {note}")
