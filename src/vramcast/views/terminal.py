"""A forecast on the terminal: the verdict first, then peaks, the breakdown as bars, instants and assumptions."""

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vramcast.forecast import Forecast
from vramcast.views.rows import (
    CATEGORY_COLORS,
    breakdown_rows,
    instant_rows,
    job_line,
    peak_rows,
    uncertainty_rows,
    verdict_line,
)

BAR_WIDTH = 32
_VERDICT_STYLES = {"fits": "bold green", "tight": "bold yellow", "does_not_fit": "bold red", "unknown": "bold magenta"}


def print_forecast(forecast: Forecast, console: Console) -> None:
    """Print a forecast."""
    console.print(forecast_renderable(forecast))


def forecast_renderable(forecast: Forecast, headline: str | None = None) -> RenderableType:
    """The whole view as one rich renderable; its first line is the verdict, or what is told in its place."""
    parts: list[RenderableType] = [
        Text(headline or verdict_line(forecast), style=_VERDICT_STYLES[forecast.verdict]),
        Text(job_line(forecast), style="dim"),
        "",
        _peaks(forecast),
        "",
        _breakdown(forecast),
        "",
        _instants(forecast),
    ]
    if forecast.uncertainty:
        parts += ["", Text("uncertain", style="bold"), _uncertainty(forecast)]
    if forecast.assumptions:
        parts += [
            "",
            Text("assumptions", style="bold"),
            *(Text(f"  · {line}", style="dim") for line in forecast.assumptions),
        ]
    return Group(*parts)


def _plain_table() -> Table:
    return Table(box=None, show_header=False, padding=(0, 2, 0, 0))


def _peaks(forecast: Forecast) -> Table:
    table = _plain_table()
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, size, meaning in peak_rows(forecast):
        table.add_row(name, size, escape(meaning))
    return table


def _breakdown(forecast: Forecast) -> Table:
    table = _plain_table()
    table.add_column()
    table.add_column(min_width=BAR_WIDTH)
    for _ in range(2):
        table.add_column(justify="right")
    for row in breakdown_rows(forecast):
        bar = Text("█" * max(round(row.share * BAR_WIDTH), 0) or "▏", style=CATEGORY_COLORS[row.category])
        table.add_row(row.name, bar, row.size, f"{row.share:.1%}")
    return table


def _uncertainty(forecast: Forecast) -> Text:
    """A line each; the reasons are long, and cut where the line ends."""
    rows = uncertainty_rows(forecast)
    width = max(len(name) for name, _, _ in rows)
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, (name, size, why) in enumerate(rows):
        text.append("\n" if number else "").append(f"  {name:<{width}}  {size:>22}  ").append(why, style="dim")
    return text


def _instants(forecast: Forecast) -> Table:
    table = _plain_table()
    table.add_column()
    table.add_column(justify="right")
    for name, size in instant_rows(forecast):
        table.add_row(f"allocated {name}", size)
    return table
