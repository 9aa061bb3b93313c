"""A dry run as plain rows: how it ended, what each line keeps alive at the peak, and what ran out of memory where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vramcast.forecast.script_run import LiveLine, OutOfMemory, ScriptRun
from vramcast.units import format_bytes, format_gib

MOST_LINES = 15
_MIB = 1 << 20


class LineRow(NamedTuple):
    """One line of source at the allocated peak."""

    size: str
    what: str
    """`24 x native_dropout`."""
    line: str
    phase: str
    category: str


def ending_line(run: ScriptRun) -> str:
    """How the run ended, how long it took, and what it took of this machine."""
    steps = f"{run.optimizer_steps} optimizer step" + ("" if run.optimizer_steps == 1 else "s")
    endings = {
        "steps": f"stopped after {steps}",
        "end": f"ran to its end, {steps}",
        "exit": f"left by itself ({run.error}) after {steps}",
        "out_of_memory": f"ran out of memory after {steps}",
        "interrupted": f"interrupted after {steps}",
        "error": f"ended in an error after {steps}: {run.error.splitlines()[0] if run.error else ''}",
    }
    return f"{endings[run.ended]}; {run.seconds:.1f} s and {format_bytes(run.host_memory_bytes)} of host memory here"


def line_rows(lines: Sequence[LiveLine], most: int = MOST_LINES) -> list[LineRow]:
    """The largest first; the others as one row."""
    rows = [
        LineRow(_size(each.bytes), f"{each.count} x {each.op}", each.line, each.phase, each.category)
        for each in lines[:most]
    ]
    rest = lines[most:]
    if rest:
        count = sum(each.count for each in rest)
        rows.append(LineRow(_size(sum(each.bytes for each in rest)), f"{count} tensors", "other lines", "", ""))
    return rows


def line_label(live: LiveLine) -> str:
    """`model.py:52 in forward  24 x native_dropout`."""
    return f"{live.line}  {live.count} x {live.op}"


def out_of_memory_lines(failed: OutOfMemory) -> list[str]:
    """Where memory ran out and what there was."""
    where = f" in {failed.module}" if failed.module else ""
    return [
        f"{failed.op} in {failed.phase}{where}",
        f"at {failed.line}",
        f"asked for {format_bytes(failed.requested_bytes)}; {format_bytes(failed.free_bytes)} were free, "
        f"{format_bytes(failed.allocated_bytes)} allocated, {format_bytes(failed.reserved_bytes)} reserved",
    ]


def warning_line(run: ScriptRun) -> str | None:
    """Why the peaks may not be those of a whole run; else None."""
    if run.ended == "interrupted":
        return "interrupted: the peaks are those until then"
    if run.failed:
        return "the script failed: the peaks are those until then, and nothing is said about the rest of it"
    if run.peak_allocated_bytes == 0:
        return "the script put nothing on the GPU: there is nothing to forecast (does it run on device='cuda'?)"
    return _growth_line(run)


def _growth_line(run: ScriptRun) -> str | None:
    """A warning where the last steps still raised a peak, so that more of them would raise it further; else None."""
    if run.ended != "steps" or len(run.steps) < 2:
        return None
    before, last = run.steps[-2:]
    for name in ("reserved", "allocated"):
        grown = getattr(last, f"peak_{name}_bytes") - getattr(before, f"peak_{name}_bytes")
        if grown > 0:
            return f"peak {name} still grew by {format_bytes(grown)} in the last step: run more (--steps, --until-end)"
    return None


def _size(nbytes: int) -> str:
    return format_gib(nbytes) if nbytes >= 100 * _MIB else format_bytes(nbytes)
