"""GPUs, their processes and announced runs as plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vramcast.units import format_gib

if TYPE_CHECKING:
    from vramcast.measure.announcement import Announcement
    from vramcast.measure.nvml import GPUReading

_NAME_WIDTH = 30


@dataclass(frozen=True, slots=True)
class WatchRow:
    """One line below a GPU."""

    pid: str
    """Empty where the row stands for several processes."""
    name: str
    used: str
    forecast: str = ""
    """What a run announced, or by how much it is over; empty for a process of others."""
    is_over: bool = False


def used_text(gpu: GPUReading) -> str:
    """`13.40 of 139.81 GiB`."""
    if gpu.used_bytes is None or gpu.total_bytes is None:
        return "not told"
    return f"{format_gib(gpu.used_bytes).removesuffix(' GiB')} of {format_gib(gpu.total_bytes)}"


def process_rows(gpu: GPUReading, runs: Sequence[Announcement], limit: int | None = None) -> list[WatchRow]:
    """The processes on a GPU, runs of ours first, then the largest.

    With more than `limit`, the last row stands for all that are left; where only one row may be, it is the first, and says how many more.
    """
    announced = {run.pid: run for run in runs}
    ordered = sorted(gpu.processes, key=lambda process: (process.pid not in announced, -(process.used_bytes or 0)))
    kept = len(ordered) if limit is None or len(ordered) <= limit else max(limit - 1, 1)
    rows = []
    for process in ordered[:kept]:
        run = announced.get(process.pid)
        name = _end_of(process.name) if run is None else run.what
        text, is_over = ("", False) if run is None else _beside_forecast(process.used_bytes, run)
        rows.append(WatchRow(str(process.pid), name, _size(process.used_bytes), text, is_over))
    rest = ordered[kept:]
    if rest and limit == 1:
        return [replace(rows[0], pid=f"{rows[0].pid} +{len(rest)}")]
    if rest:
        told = [process.used_bytes for process in rest if process.used_bytes is not None]
        rows.append(WatchRow("", f"{len(rest)} more", _size(sum(told) if told else None)))
    return rows


def elsewhere_rows(gpus: Sequence[GPUReading], runs: Sequence[Announcement]) -> list[WatchRow]:
    """Runs of ours that no GPU lists: they have not begun, run on the CPU, or the driver counts them by another number."""
    listed = {process.pid for gpu in gpus for process in gpu.processes}
    return [WatchRow(str(run.pid), run.what, "", _forecast(run)) for run in runs if run.pid not in listed]


def forecast_share(gpu: GPUReading, runs: Sequence[Announcement]) -> float | None:
    """Where on the bar of a GPU the forecasts of its runs stand (0 to 1); None without a run of ours on it.

    What other processes use comes first, then what our runs were forecast to take.
    """
    announced = {run.pid: run for run in runs}
    ours = [process for process in gpu.processes if process.pid in announced]
    if not ours or gpu.used_bytes is None or not gpu.total_bytes or any(own.used_bytes is None for own in ours):
        return None
    others = gpu.used_bytes - sum(process.used_bytes or 0 for process in ours)
    expected = sum(announced[process.pid].device_used_bytes for process in ours)
    return min((others + expected) / gpu.total_bytes, 1.0)


def watch_dict(gpus: Sequence[GPUReading], runs: Sequence[Announcement]) -> dict[str, Any]:
    """Plain data for `--json`; ints of bytes."""
    from dataclasses import asdict

    return {"gpus": [asdict(gpu) for gpu in gpus], "announced_runs": [asdict(run) for run in runs]}


def _beside_forecast(used_bytes: int | None, run: Announcement) -> tuple[str, bool]:
    if used_bytes is not None and used_bytes > run.device_used_bytes:
        return f"{format_gib(used_bytes - run.device_used_bytes)} over forecast", True
    return _forecast(run), False


def _forecast(run: Announcement) -> str:
    return f"forecast {format_gib(run.device_used_bytes)}"


def _size(nbytes: int | None) -> str:
    return "not told" if nbytes is None else format_gib(nbytes)


def _end_of(name: str) -> str:
    """The end of a path tells more than its beginning."""
    return name if len(name) <= _NAME_WIDTH else f"…{name[1 - _NAME_WIDTH :]}"
