"""The answer of a dry run: a forecast of a whole script, with the lines of source that its memory belongs to."""

from __future__ import annotations

from typing import Literal

from vramcast.forecast.forecast import Forecast
from vramcast.result import Result
from vramcast.timeline import Category

Ending = Literal[
    "steps",
    "end",
    "exit",
    "out_of_memory",
    "error",
    "refused",
    "os_exit",
    "killed",
    "replaced",
    "interrupted",
    "internal_error",
]
"""Why a run stopped: enough optimizer steps; the script ended; it left with an exit code of its own; memory ran out; another error of
its own; it met what cannot be followed and did not catch the refusal; `os._exit` or C's `exit`, which no handler sees; a signal; another
program in its place (`os.execv`); Ctrl-C; an error of vramcast itself."""
FINISHED: tuple[Ending, ...] = ("steps", "end")
"""Endings after which the peaks are those of the script."""


class LiveLine(Result):
    """What one line of source keeps alive at the allocated peak."""

    line: str
    """`model.py:52 in forward`; in backward, the forward line whose gradient is computed."""
    phase: str
    op: str
    category: Category
    count: int
    """Tensors."""
    bytes: int


class OutOfMemory(Result):
    """A request that did not fit, in bytes at that moment."""

    line: str
    phase: str
    module: str
    op: str
    step: int
    """Number of the optimizer step it belongs to, from 1."""
    requested_bytes: int
    free_bytes: int
    allocated_bytes: int
    reserved_bytes: int


class StepPeaks(Result):
    """The highest marks until the end of an optimizer step."""

    peak_allocated_bytes: int
    peak_reserved_bytes: int


class ScriptRun(Forecast):
    """A forecast with what a dry run alone can tell."""

    script: str
    arguments: tuple[str, ...]
    ended: Ending
    error: str = ""
    """The script's own error, where it ended in one; the code it left with; the signal that ended it."""
    error_line: str = ""
    """The script's line that the error came from, such as `train.py:12`."""
    refusals: tuple[str, ...] = ()
    """What cannot be followed and was asked for, whether the script caught the refusal or not."""
    children: tuple[str, ...] = ()
    """Processes that the script started and whose use of a GPU was not seen."""
    files: tuple[str, ...] = ()
    """What the script did to files, and what was put back, a sentence each."""
    allocations: int = 0
    """Blocks of GPU memory that were asked for."""
    optimizer_steps: int
    steps: tuple[StepPeaks, ...]
    """Of each optimizer step."""
    out_of_memory: tuple[OutOfMemory, ...]
    """Every time memory ran out; the last one ended the run if `ended` says so, the others were caught by the script."""
    num_alloc_retries: int
    """How often the allocator gave cached memory back to go on, as `torch.cuda.memory_stats()` counts it."""
    live_lines: tuple[LiveLine, ...]
    """The allocated peak by line of source, largest first; sums to it exactly."""
    world_size: int = 1
    rank: int = 0
    """The process of a distributed run that was simulated."""
    seconds: float
    """Wall time of the script on this machine."""
    host_memory_bytes: int
    """Largest resident set of this process."""

    @property
    def failed(self) -> bool:
        """The script ended before its time by something else than memory, so that its peaks say little."""
        return self.ended not in (*FINISHED, "out_of_memory") and self.verdict != "does_not_fit"

    def _repr_html_(self) -> str:
        from vramcast.views.script_html import script_html

        return script_html(self)
