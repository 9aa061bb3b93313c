"""FLOPs on the terminal, for a GPU whose rates are not known: the arithmetic is the same on every card, the time is not."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vramcast.compute import StepFlops, model_flops, step_flops
from vramcast.timeline import OperatorTable
from vramcast.views.compute_rows import Row, format_flops

NO_TIME = "no time is told: the rates of this GPU are not known"


def print_flops(operators: OperatorTable, console: Console) -> None:
    """Print the FLOPs of one optimizer step."""
    flops = step_flops(operators)
    shares = {name: getattr(flops, name) / flops.total for name in StepFlops.model_fields}
    split = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share)
    rows = [
        ("FLOPs per step", format_flops(flops.total), split),
        ("model FLOPs", format_flops(model_flops(operators)), "nothing computed twice: what MFU counts"),
    ]
    _print(rows, console)


def print_interval_flops(operators: Mapping[str, OperatorTable], console: Console) -> None:
    """Print the FLOPs of a prefill and of decode steps."""
    rows = [(f"FLOPs of {name.replace('_', ' ')}", format_flops(table.flops), "") for name, table in operators.items()]
    _print(rows, console)


def _print(rows: list[Row], console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for name, value, meaning in rows:
        table.add_row(name, value, escape(meaning))
    console.print(table)
    console.print(NO_TIME, style="dim")
