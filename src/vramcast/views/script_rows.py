"""A dry run as plain rows: how it ended, what each line keeps alive at the peak, and what ran out of memory where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vramcast.errors import shortened
from vramcast.forecast.script_run import LiveLine, OutOfMemory, ScriptRun
from vramcast.units import format_bytes, format_figures, format_gib
from vramcast.views.rows import VERDICTS, article, verdict_line

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


def headline(run: ScriptRun) -> str:
    """The first line of an answer: what happened, then the number."""
    if run.verdict == "unknown":
        return f"{VERDICTS['unknown']}  {_why_unknown(run)}"
    if not run.out_of_memory:
        return verdict_line(run)
    failed = run.out_of_memory[-1]
    went_on = "; the script went on" if run.verdict != "does_not_fit" else ""
    asked, free = format_figures(failed.requested_bytes), format_figures(failed.free_bytes)
    where = f"at step {failed.step}, {failed.line}"
    return f"RAN OUT OF MEMORY  {where}: asked {asked}, {free} free of {format_gib(run.gpu_memory_bytes)} ({run.gpu}){went_on}"


def _why_unknown(run: ScriptRun) -> str:
    """In words: the script failed, or what ran is no basis for a verdict."""
    name = Path(run.script).name
    line = f" ({run.error_line})" if run.error_line else ""
    first = run.error.splitlines()[0] if run.error else ""
    used = f"{_after(run)}; {_in_use(run)}"
    match run.ended:
        case "error":
            return f"{name} failed {_when(run)}: {first}{line}; {_in_use(run)}"
        case "exit":
            left = f"with exit code {first}" if first.lstrip("-").isdecimal() else f"with the words {first!r}"
            return f"{name} left {left} {_when(run)}{line}; {_in_use(run)}"
        case "refused":
            return f"{name} needs what cannot be followed, {_when(run)}{line}: {first.partition(': ')[2]}"
        case "os_exit":
            return f"the script ended by os._exit({first}) {used}"
        case "killed":
            return f"the script was ended by {first}{line} {used}{_HINTS.get(first, '')}"
        case "replaced":
            return (
                f"the script put another program in its place, which was not followed: {shortened(first, 80)}; {used}"
            )
        case "interrupted":
            return f"interrupted {used}"
        case "internal_error":
            return f"vramcast itself failed, which is a fault to report: {first}"
    if run.refusals:
        return f"{name} went on without what cannot be followed: {run.refusals[0]}"
    children = f"; it started {run.children[0]}, which was not followed" if run.children else ""
    return f"{name} put nothing on the GPU (does it run on device='cuda'?){children}"


_HINTS = {"SIGKILL": " (the kernel does so to a process that takes more host memory than there is)"}


def _when(run: ScriptRun) -> str:
    return f"at step {run.optimizer_steps + 1}" if run.optimizer_steps else "before its first step ended"


def _after(run: ScriptRun) -> str:
    return f"after {run.allocations:,} allocation{'' if run.allocations == 1 else 's'} on the GPU"


def _in_use(run: ScriptRun) -> str:
    if not run.peak_reserved_bytes:
        return "nothing was on the GPU"
    offers = f"{article(run.gpu)} {run.gpu} offers {format_gib(run.gpu_memory_bytes)}"
    return f"at least {format_figures(run.peak_allocated_bytes)} were in use, {offers}"


def ending_line(run: ScriptRun) -> str:
    """How the run ended, how long it took, and what it took of this machine."""
    steps = f"{run.optimizer_steps} optimizer step" + ("" if run.optimizer_steps == 1 else "s")
    first = run.error.splitlines()[0] if run.error else ""
    endings = {
        "steps": f"stopped after {steps}",
        "end": f"ran to its end, {steps}",
        "exit": f"left by itself ({first}) after {steps}",
        "out_of_memory": f"ran out of memory after {steps}",
        "interrupted": f"interrupted after {steps}",
        "error": f"ended in an error after {steps}: {first}",
        "refused": f"ended at what cannot be followed after {steps}",
        "os_exit": f"left by os._exit({first}) after {steps}",
        "killed": f"ended by {first} after {steps}",
        "replaced": f"put another program in its place after {steps}",
        "internal_error": f"not run to its end, after {steps}",
    }
    took = f"; {run.seconds:.1f} s and {format_bytes(run.host_memory_bytes)} of host memory here" if run.seconds else ""
    return f"{endings[run.ended]}{took}"


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
    if run.verdict == "unknown":
        return "the peaks are those until then; nothing is said about the rest" if run.allocations else None
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
