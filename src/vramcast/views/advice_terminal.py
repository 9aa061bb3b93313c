"""Advice on the terminal: what each switch saves alone, then the waterfalls as bars."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramcast.plan import Advice, Waterfall
from vramcast.views.advice_rows import SavingRow, advice_line, bar_rows, saving_rows, waterfall_title
from vramcast.views.fit_terminal import VERDICT_COLORS
from vramcast.views.rows import VERDICTS

BAR_WIDTH = 32


def print_advice(advice: Advice, console: Console) -> None:
    """Print advice."""
    console.print(advice_renderable(advice))


def advice_renderable(advice: Advice) -> RenderableType:
    """The whole view as one rich renderable."""
    parts: list[RenderableType] = [Text(advice_line(advice), style=f"bold {VERDICT_COLORS[advice.verdict]}")]
    for title, rows in saving_rows(advice).items():
        parts += ["", Text(f"each alone, {title}", style="bold"), _savings(rows)]
    for waterfall in advice.waterfalls:
        parts += ["", Text(waterfall_title(waterfall), style="bold"), _waterfall(waterfall)]
    return Group(*parts)


def _savings(rows: list[SavingRow]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, justify in (("saves", "right"), ("device used", "right"), ("FLOPs", "right"), ("switch", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "switch")  # type: ignore[arg-type]
    table.add_column("costs")
    for row in rows:
        used = Text(row.device_used, style=VERDICT_COLORS[row.verdict])
        table.add_row(row.saved, used, row.flops, Text(f"{row.name}\n{row.flags}"), Text(row.cost, style="dim"))
    return table


def _waterfall(waterfall: Waterfall) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for column in range(6):
        table.add_column(
            justify="right" if column in (2, 3, 5) else "left", min_width=BAR_WIDTH if column == 1 else None
        )
    for row in bar_rows(waterfall):
        color = VERDICT_COLORS[row.verdict]
        bar = Text("█" * round(row.share * BAR_WIDTH) or "▏", style=color)
        table.add_row(
            row.flags or row.name, bar, row.device_used, row.saved, Text(VERDICTS[row.verdict], color), row.flops
        )
    return table
