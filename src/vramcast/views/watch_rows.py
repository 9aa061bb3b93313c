"""GPUs, their processes and announced runs as plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vramcast.units import format_bytes, format_gib

if TYPE_CHECKING:
    from vramcast.measure.announcement import Announcement
    from vramcast.measure.nvml import GPUReading


@dataclass(frozen=True, slots=True)
class WatchRow:
    """One line below a GPU."""

    pid: int
    name: str
    used: str
    forecast: str
    """What the run announced: peak reserved and device used; empty for a process of others."""


def gpu_line(gpu: GPUReading) -> str:
    """`0  NVIDIA H200  13.40 of 139.81 GiB`."""
    used = format_gib(gpu.used_bytes).removesuffix(" GiB")
    return f"{gpu.index}  {gpu.name}  {used} of {format_gib(gpu.total_bytes)}"


def process_rows(gpu: GPUReading, runs: Sequence[Announcement]) -> list[WatchRow]:
    """The processes on a GPU, largest first; a run of ours carries its forecast."""
    announced = {run.pid: run for run in runs}
    ordered = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))
    return [
        WatchRow(
            process.pid,
            announced[process.pid].what if process.pid in announced else process.name,
            "not told" if process.used_bytes is None else format_gib(process.used_bytes),
            _forecast(announced[process.pid]) if process.pid in announced else "",
        )
        for process in ordered
    ]


def elsewhere_rows(gpus: Sequence[GPUReading], runs: Sequence[Announcement]) -> list[WatchRow]:
    """Runs of ours that no GPU lists: they have not begun, run on the CPU, or the driver counts them by another number."""
    listed = {process.pid for gpu in gpus for process in gpu.processes}
    return [WatchRow(run.pid, run.what, "", _forecast(run)) for run in runs if run.pid not in listed]


def forecast_share(gpu: GPUReading, runs: Sequence[Announcement]) -> float | None:
    """Where on the bar of a GPU the forecasts of its runs stand (0 to 1); None without a run of ours on it.

    What other processes use comes first, then what our runs were forecast to take.
    """
    announced = {run.pid: run for run in runs}
    ours = [process for process in gpu.processes if process.pid in announced]
    if not ours:
        return None
    others = gpu.used_bytes - sum(process.used_bytes or 0 for process in ours)
    expected = sum(announced[process.pid].device_used_bytes for process in ours)
    return min((others + expected) / gpu.total_bytes, 1.0)


def watch_dict(gpus: Sequence[GPUReading], runs: Sequence[Announcement]) -> dict[str, Any]:
    """Plain data for `--json`; ints of bytes."""
    from dataclasses import asdict

    return {"gpus": [asdict(gpu) for gpu in gpus], "announced_runs": [asdict(run) for run in runs]}


def _forecast(run: Announcement) -> str:
    return f"forecast {format_bytes(run.peak_reserved_bytes)} reserved, {format_bytes(run.device_used_bytes)} used"
