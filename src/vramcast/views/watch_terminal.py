"""GPUs on the terminal: a bar of used memory for each, with the forecast as a line on it, and its processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramcast.views.watch_rows import WatchRow, elsewhere_rows, forecast_share, gpu_line, process_rows

if TYPE_CHECKING:
    from vramcast.measure.announcement import Announcement
    from vramcast.measure.nvml import GPUReading

BAR_WIDTH = 60
_TIGHT, _FULL = 0.80, 0.95


def watch_renderable(gpus: Sequence[GPUReading], runs: Sequence[Announcement]) -> RenderableType:
    """The whole view."""
    parts: list[RenderableType] = []
    for gpu in gpus:
        parts += [Text(gpu_line(gpu), style="bold"), bar(gpu, forecast_share(gpu, runs))]
        parts += [_table(process_rows(gpu, runs)), ""]
    waiting = elsewhere_rows(gpus, runs)
    if waiting:
        parts += [Text("runs that no GPU lists", style="bold"), _table(waiting)]
    return Group(*parts)


def bar(gpu: GPUReading, forecast: float | None) -> Text:
    """Used memory as a bar; `┃` where the forecast stands."""
    share = gpu.used_bytes / gpu.total_bytes
    cells = ["█" if cell < round(share * BAR_WIDTH) else "·" for cell in range(BAR_WIDTH)]
    style = "green" if share < _TIGHT else "yellow" if share < _FULL else "red"
    text = Text("".join(cells), style=style)
    if forecast is not None:
        position = min(round(forecast * BAR_WIDTH), BAR_WIDTH - 1)
        text = text[:position] + Text("┃", style="bold magenta") + text[position + 1 :]
    return text


def _table(rows: Sequence[WatchRow]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for row in rows:
        table.add_row(str(row.pid), row.name, row.used, row.forecast)
    return table
