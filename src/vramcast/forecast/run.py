"""A forecast of whatever code ran on a virtual GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vramcast.forecast.build import Judgement, build_forecast, judge, judge_headroom
from vramcast.forecast.forecast import Forecast
from vramcast.forecast.readings import Readings
from vramcast.forecast.source import RecordedSource
from vramcast.hardware import allocator_capacity_bytes, cuda_context_bytes

if TYPE_CHECKING:
    from vramcast.virtual_cuda import VirtualGPU


class JudgedRun(NamedTuple):
    """The forecast of a run, and the replay it was read from."""

    forecast: Forecast
    readings: Readings


def forecast_of_run(machine: VirtualGPU) -> Forecast:
    """The forecast of everything the virtual GPU has recorded so far."""
    return judged_run(machine).forecast


def judged_run(
    machine: VirtualGPU, name: str = "code", *, completed: bool = True, assumptions: tuple[str, ...] = ()
) -> JudgedRun:
    """As `forecast_of_run`, for code of this name that came to its end or, not `completed`, ran out of memory."""
    source = RecordedSource(machine.recording())
    judgement = _judgement(machine, source, completed)
    forecast = build_forecast(
        source,
        machine.gpu,
        workload="code",
        model=name,
        settings={},
        allocator_config=machine.allocator_config,
        judgement=judgement,
        assumptions=assumptions,
    )
    return JudgedRun(forecast, judgement.readings)


def _judgement(machine: VirtualGPU, source: RecordedSource, completed: bool) -> Judgement:
    """How the code fared on the GPU.

    Code that ran within a capacity has met its limit, and may have chosen its way by it: only a replay within the same capacity is
    what happened.
    """
    config = machine.allocator_config
    if machine.capacity_bytes is None:
        return judge(source, machine.gpu, config)
    readings = source.read(config, machine.capacity_bytes)
    if not completed:
        note = "memory ran out: the peaks are those until then, and the code needs more"
        return Judgement("does_not_fit", readings, (note,))
    headroom = allocator_capacity_bytes(machine.gpu) - readings.peak_reserved_bytes
    judgement = judge_headroom(readings, headroom, cuda_context_bytes(machine.gpu))
    if not readings.num_alloc_retries:
        return judgement
    retries = f"to stay within this GPU the allocator gave cached memory back {readings.num_alloc_retries} times, which costs time"
    return Judgement("tight", readings, (*judgement.notes, retries))
