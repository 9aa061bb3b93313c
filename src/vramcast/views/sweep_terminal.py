"""A sweep on the terminal: batch sizes down, sequence lengths across, GiB coloured by verdict."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vramcast.plan import Sweep, SweepRow
from vramcast.units import format_gib
from vramcast.views.fit_terminal import VERDICT_COLORS
from vramcast.views.rows import VERDICTS
from vramcast.views.sweep_csv import LIVE_BYTES_LABEL


def print_sweep(sweep: Sweep, console: Console) -> None:
    """Print a sweep."""
    console.print(sweep_renderable(sweep))


def sweep_renderable(sweep: Sweep) -> RenderableType:
    """The whole view as one rich renderable."""
    return Group(
        Text(_title(sweep), style="bold"),
        Text(_job_line(sweep), style="dim"),
        "",
        _grid(sweep),
        "",
        _legend(sweep),
        *(Text(f"  {line}", style="dim") for line in sweep.assumptions),
    )


def _title(sweep: Sweep) -> str:
    shown = LIVE_BYTES_LABEL if sweep.quick else "device used (nvidia-smi: reserved + CUDA context)"
    return f"{shown} on {sweep.gpu}, {format_gib(sweep.gpu_memory_bytes)}"


def _job_line(sweep: Sweep) -> str:
    settings = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in sweep.settings.items() if value not in (None, False)
    )
    return f"training of {sweep.model}: {settings}"


def _grid(sweep: Sweep) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("batch \\ sequence", justify="right")
    for length in sweep.sequence_lengths:
        table.add_column(f"{length:,}", justify="right", no_wrap=True)
    width = len(sweep.sequence_lengths)
    for position, batch_size in enumerate(sweep.batch_sizes):
        cells = sweep.rows[position * width : (position + 1) * width]
        table.add_row(f"{batch_size:,}", *(_cell(cell) for cell in cells))
    return table


def _cell(row: SweepRow) -> Text:
    nbytes = row.live_bytes if row.device_used_bytes is None else row.device_used_bytes
    # The mark tells without colours what the colour tells.
    mark = {"tight": "*", "does_not_fit": "x"}.get(row.verdict or "", " ")
    return Text(f"{format_gib(nbytes)} {mark}", style="" if row.verdict is None else VERDICT_COLORS[row.verdict])


def _legend(sweep: Sweep) -> Text:
    if sweep.quick:
        return Text("x: live tensors alone exceed the card; without a mark it may or may not fit", style="dim")
    return Text.assemble(
        *((f"{VERDICTS[key]}  ", VERDICT_COLORS[key]) for key in ("fits", "tight", "does_not_fit")),
        ("*: tight, x: does not fit", "dim"),
    )
