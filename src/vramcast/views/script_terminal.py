"""A dry run on the terminal: how it ended, the forecast, and the lines of source its memory belongs to."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vramcast.forecast.script_run import ScriptRun
from vramcast.views.rows import CATEGORY_COLORS
from vramcast.views.script_rows import ending_line, headline, line_rows, out_of_memory_lines, warning_line
from vramcast.views.terminal import forecast_renderable


def print_script_run(run: ScriptRun, console: Console) -> None:
    """Print a dry run."""
    console.print(forecast_renderable(run, headline(run)))
    console.print()
    if run.live_lines:
        console.print(Text("live at the allocated peak, by line of source", style="bold"))
        console.print(_lines(run))
    for number, failed in enumerate(run.out_of_memory):
        ended_here = run.verdict == "does_not_fit" and number == len(run.out_of_memory) - 1
        head = "out of memory" if ended_here else "out of memory, caught by the script"
        console.print()
        console.print(Text(head, style="bold red" if ended_here else "bold yellow"))
        for line in out_of_memory_lines(failed):
            console.print(Text(f"  {line}"), soft_wrap=True)
    console.print()
    console.print(Text(f"{run.script}: {ending_line(run)}", style="dim"), soft_wrap=True)
    warning = warning_line(run)
    if warning is not None:
        console.print(Text(warning, style="yellow"), soft_wrap=True)


def _lines(run: ScriptRun) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    for _ in range(3):
        table.add_column(overflow="fold")
    for row in line_rows(run.live_lines):
        style = CATEGORY_COLORS.get(row.category, "default")
        what = f"[{style}]■[/] {escape(row.what)}" if row.category else escape(row.what)
        table.add_row(row.size, what, escape(row.line), escape(row.phase))
    return table
