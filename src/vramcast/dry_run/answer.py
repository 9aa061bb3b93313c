"""From a virtual GPU that a script has used to the answer."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vramcast.dry_run.traceback import is_users
from vramcast.forecast.run import judged_run
from vramcast.forecast.script_run import FINISHED, Ending, LiveLine, OutOfMemory, ScriptRun, StepPeaks
from vramcast.timeline import Category, EventKind

if TYPE_CHECKING:
    from vramcast.dry_run.launch import Launch
    from vramcast.forecast.readings import Readings
    from vramcast.job.script import ScriptOptions
    from vramcast.virtual_cuda import VirtualGPU

Site = tuple[str, str, str, Category]
"""Line, phase, operator, category."""


def answer_of(
    machine: VirtualGPU,
    launch: Launch,
    options: ScriptOptions,
    *,
    rank: int,
    ended: Ending,
    error: BaseException | None,
    exit_code: str,
    steps: tuple[StepPeaks, ...],
    seconds: float,
    host_memory_bytes: int,
    notes: Sequence[str],
) -> ScriptRun:
    """The forecast of what the machine recorded, and what the run alone can tell."""
    ran_out = _ran_out(machine, ended)
    refused = tuple(f"not followed: {refusal}" for refusal in machine.refusals)
    forecast, readings = judged_run(
        machine,
        launch.name,
        completed=not ran_out,
        no_verdict=not ran_out and _says_nothing(machine, ended),
        margin=options.margin,
        assumptions=(*refused, *notes),
    )
    fields = {name: getattr(forecast, name) for name in type(forecast).model_fields}
    fields["settings"] = options.model_dump(mode="json")
    return ScriptRun(
        **fields,
        script=launch.target,
        arguments=launch.arguments,
        ended=ended,
        error=_words(error) or exit_code,
        error_line=_line_of(error),
        refusals=tuple(machine.refusals),
        allocations=sum(event.kind is EventKind.ALLOC for event in machine.timeline.events),
        optimizer_steps=len(steps),
        steps=steps,
        out_of_memory=_out_of_memory(machine),
        num_alloc_retries=readings.num_alloc_retries,
        live_lines=_live_lines(machine, readings),
        world_size=max(machine.world_size, options.world_size),
        rank=rank,
        seconds=seconds,
        host_memory_bytes=host_memory_bytes,
    )


def _says_nothing(machine: VirtualGPU, ended: Ending) -> bool:
    """Whether what ran is no basis for a verdict: not all of it, not what would run on a card, or nothing at all."""
    return ended not in FINISHED or bool(machine.refusals) or machine.peak_allocated_bytes == 0


def _ran_out(machine: VirtualGPU, ended: Ending) -> bool:
    if ended == "out_of_memory":
        return True
    # A library may turn the error into one of its own ("no executable batch size found"): nothing is taken after it.
    if ended not in ("error", "exit") or not machine.out_of_memory:
        return False
    after = machine.timeline.events[machine.out_of_memory[-1].position :]
    return not any(event.kind is EventKind.ALLOC for event in after)


def _words(error: BaseException | None) -> str:
    if isinstance(error, SystemExit):
        return str(error.code)
    return "" if error is None else f"{type(error).__name__}: {error}"


def _line_of(error: BaseException | None) -> str:
    """The user's own line nearest to where the error was raised; of a syntax error the line that cannot be read."""
    if error is None:
        return ""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _out_of_memory(machine: VirtualGPU) -> tuple[OutOfMemory, ...]:
    return tuple(
        OutOfMemory(
            line=str(each.line),
            phase=each.allocation.phase,
            module=each.allocation.module,
            op=each.allocation.op,
            step=each.optimizer_steps + 1,
            requested_bytes=each.allocation.nbytes,
            free_bytes=each.free_bytes,
            allocated_bytes=each.allocated_bytes,
            reserved_bytes=each.reserved_bytes,
        )
        for each in machine.out_of_memory
    )


def _live_lines(machine: VirtualGPU, readings: Readings) -> tuple[LiveLine, ...]:
    """The allocated peak by line of source; equal sites are one row."""
    assert machine.source_lines is not None
    lines = {
        id(allocation): line
        for allocation, line in zip(machine.timeline.allocations, machine.source_lines.of_allocations, strict=True)
    }
    sizes: Counter[Site] = Counter()
    counts: Counter[Site] = Counter()
    for allocation, nbytes in readings.live_at_peak():
        site = str(lines[id(allocation)]), allocation.phase, allocation.op, allocation.category
        sizes[site] += nbytes
        counts[site] += 1
    return tuple(
        LiveLine(line=site[0], phase=site[1], op=site[2], category=site[3], count=counts[site], bytes=nbytes)
        for site, nbytes in sizes.most_common()
    )
