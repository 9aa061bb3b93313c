"""Times and costs on the terminal: a compact block of rows, what limits, and the bound by phase as bars."""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vramcast.compute import GenerationTime, TrainingTime
from vramcast.views.compute_rows import (
    Block,
    Row,
    generation_blocks,
    limits_line,
    phase_rows,
    published_line,
    training_blocks,
    training_rows,
)
from vramcast.views.terminal import BAR_WIDTH

_BAR_STYLE = "#2f6fb4"


def print_training_time(time: TrainingTime, console: Console) -> None:
    """Print the time of a training."""
    console.print(training_time_renderable(time))


def print_generation_time(time: GenerationTime, console: Console) -> None:
    """Print the time of a generation."""
    console.print(generation_time_renderable(time))


def training_time_renderable(time: TrainingTime) -> RenderableType:
    """The whole block as one rich renderable."""
    title = f"time on one {time.gpu}: sequences per step {time.sequences_per_step:,}, tokens per step {time.tokens_per_step:,}"
    notes = [Text(f"  · {note}", style="yellow") for note in time.notes]
    limits = Text(f"the bound of this code run eagerly is {limits_line(time.roofline)}")
    return Group(
        Text(title, style="bold"),
        *_tables(training_rows(time), training_blocks(time)),
        Text(published_line(time.published_runs), style="dim"),
        "",
        limits,
        _phases(time),
        *notes,
    )


def generation_time_renderable(time: GenerationTime) -> RenderableType:
    """The whole block as one rich renderable."""
    title = (
        f"time on one {time.gpu}: sequences {time.batch_size:,}, prompt {time.prompt_length:,}, "
        f"new tokens of each {time.new_tokens:,}"
    )
    tables = _tables([], generation_blocks(time))
    return Group(Text(title, style="bold"), *tables, Text(published_line(time.published_runs), style="dim"))


def _tables(rows: list[Row], blocks: list[Block]) -> list[RenderableType]:
    """Rows, then each block below its title; the columns of all stand below each other."""
    every = [*rows, *(row for block in blocks for row in block.rows)]
    widths = [max(len(row[column]) for row in every) for column in range(2)]
    parts: list[RenderableType] = [_rows(rows, widths)] if rows else []
    for block in blocks:
        parts += [Text(block.title), _rows(block.rows, widths)]
    return parts


def _rows(rows: Iterable[Row], widths: list[int]) -> Table:
    table = _plain_table()
    table.add_column(min_width=widths[0])
    table.add_column(min_width=widths[1], justify="right", no_wrap=True)
    table.add_column(style="dim")
    for name, value, meaning in rows:
        table.add_row(name, value, escape(meaning))
    return table


def _phases(time: TrainingTime) -> Table:
    table = _plain_table()
    table.add_column()
    table.add_column(min_width=BAR_WIDTH)
    for _ in range(2):
        table.add_column(justify="right")
    for row in phase_rows(time.roofline):
        bar = Text("█" * round(row.share * BAR_WIDTH) or "▏", style=_BAR_STYLE)
        table.add_row(escape(row.name), bar, row.time, f"{row.share:.1%}")
    return table


def _plain_table() -> Table:
    return Table(box=None, show_header=False, padding=(0, 2, 0, 0))
