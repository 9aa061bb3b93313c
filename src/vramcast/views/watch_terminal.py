"""GPUs on the terminal: a bar of used memory for each, with the forecast as a line on it, and its processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vramcast.views.watch_rows import WatchRow, elsewhere_rows, forecast_share, process_rows, used_text

if TYPE_CHECKING:
    from vramcast.measure.announcement import Announcement
    from vramcast.measure.nvml import GPUReading

SHORTEST_BAR, LONGEST_BAR = 20, 60
_TIGHT, _FULL = 0.80, 0.95
_LEGEND = "┃ the forecast of our runs, on top of what others use"
_LINES_BESIDE = 2
"""The legend, and the line of the cursor."""


def watch_renderable(
    gpus: Sequence[GPUReading], runs: Sequence[Announcement], *, height: int | None = None
) -> RenderableType:
    """The whole view.

    Args:
        gpus: what the driver tells.
        runs: announced runs.
        height: lines there are; where they are too few, the smallest processes of others share a row.
    """
    waiting = elsewhere_rows(gpus, runs)
    lines = sum(1 + len(gpu.processes) for gpu in gpus) + (1 + len(waiting) if waiting else 0) + _LINES_BESIDE
    limit = None
    if height is not None and lines > height and gpus:
        left = height - len(gpus) - (1 + len(waiting) if waiting else 0) - _LINES_BESIDE
        limit = max(left // len(gpus), 1)
    is_airy = height is None or lines + len(gpus) <= height
    table = _empty_table()
    for gpu in gpus:
        _add_gpu(table, gpu, runs, limit)
        if is_airy:
            table.add_row()
    if waiting:
        table.add_row("", _cut("runs that no GPU lists"), style="bold")
        _add_processes(table, waiting)
    has_line = any(forecast_share(gpu, runs) is not None for gpu in gpus)
    return Group(table, Text(_LEGEND, style="dim")) if has_line else table


class MemoryBar:
    """Used memory as a bar as wide as there is room; `┃` where the forecast stands, red what is past it."""

    def __init__(self, used: float, forecast: float | None) -> None:
        """Both are shares of the GPU's memory."""
        self.used, self.forecast = used, forecast

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(SHORTEST_BAR, LONGEST_BAR).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield bar(self.used, self.forecast, min(options.max_width, LONGEST_BAR))


def bar(used: float, forecast: float | None, width: int) -> Text:
    """The text of a `MemoryBar` in `width` cells."""
    filled = round(used * width)
    line = width if forecast is None else min(round(forecast * width), width - 1)
    style = "green" if used < _TIGHT else "yellow" if used < _FULL else "red"
    text = Text()
    for cell in range(width):
        if cell == line:
            text.append("┃", "bold magenta")
        elif cell < filled:
            text.append("█", style if cell < line else "red")
        else:
            text.append("·", "dim")
    return text


def _empty_table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    # Names and bars give way where there is little room (rich shrinks what may wrap first); their texts are cut, not wrapped.
    table.add_column(max_width=40)
    table.add_column(min_width=SHORTEST_BAR)
    table.add_column(justify="right", no_wrap=True)
    return table


def _add_gpu(table: Table, gpu: GPUReading, runs: Sequence[Announcement], limit: int | None) -> None:
    middle: RenderableType = _cut(gpu.problem, "yellow")
    if gpu.used_bytes is not None and gpu.total_bytes:
        middle = MemoryBar(gpu.used_bytes / gpu.total_bytes, forecast_share(gpu, runs))
    table.add_row(f"GPU {gpu.index}", _cut(gpu.name), middle, used_text(gpu), style="bold")
    if gpu.problem and isinstance(middle, MemoryBar):
        table.add_row("", "", _cut(gpu.problem, "yellow"))
    _add_processes(table, process_rows(gpu, runs, limit))


def _add_processes(table: Table, rows: Sequence[WatchRow]) -> None:
    for row in rows:
        style = "bold red" if row.is_over else "magenta"
        table.add_row(row.pid, _cut(row.name), _cut(row.forecast, style), row.used)


def _cut(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
