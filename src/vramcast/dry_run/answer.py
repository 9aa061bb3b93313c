"""From a virtual GPU that a script has used to the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vramcast.forecast.run import judged_run
from vramcast.forecast.script_run import Ending, LiveLine, OutOfMemory, ScriptRun, StepPeaks
from vramcast.timeline import Category

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
    ended: Ending,
    error: BaseException | None,
    steps: tuple[StepPeaks, ...],
    seconds: float,
    host_memory_bytes: int,
    notes: Sequence[str],
) -> ScriptRun:
    """The forecast of what the machine recorded, and what the run alone can tell."""
    completed = not _ran_out(machine, ended)
    forecast, readings = judged_run(machine, launch.name, completed=completed, assumptions=tuple(notes))
    fields = {name: getattr(forecast, name) for name in type(forecast).model_fields}
    fields["settings"] = options.model_dump(mode="json")
    return ScriptRun(
        **fields,
        script=launch.target,
        arguments=launch.arguments,
        ended=ended,
        error="" if error is None else f"{type(error).__name__}: {error}",
        optimizer_steps=len(steps),
        steps=steps,
        out_of_memory=_out_of_memory(machine),
        num_alloc_retries=readings.num_alloc_retries,
        live_lines=_live_lines(machine, readings),
        world_size=options.world_size,
        seconds=seconds,
        host_memory_bytes=host_memory_bytes,
    )


def _ran_out(machine: VirtualGPU, ended: Ending) -> bool:
    # A library may turn the error into one of its own ("no executable batch size found").
    return ended == "out_of_memory" or (ended == "error" and bool(machine.out_of_memory))


def _out_of_memory(machine: VirtualGPU) -> tuple[OutOfMemory, ...]:
    return tuple(
        OutOfMemory(
            line=str(each.line),
            phase=each.allocation.phase,
            module=each.allocation.module,
            op=each.allocation.op,
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
