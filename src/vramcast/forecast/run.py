"""A forecast of whatever code ran on a virtual GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vramcast.forecast.build import Built, Judgement, build_forecast, judge
from vramcast.forecast.forecast import Forecast
from vramcast.forecast.readings import peak_reserved_bytes
from vramcast.forecast.room import Room, room_of
from vramcast.forecast.source import RecordedSource
from vramcast.forecast.uncertainty import JobKind, Uncertainty
from vramcast.timeline import EventKind

if TYPE_CHECKING:
    from vramcast.virtual_cuda import VirtualGPU


def forecast_of_run(machine: VirtualGPU) -> Forecast:
    """The forecast of everything the virtual GPU has recorded so far."""
    return judged_run(machine).forecast


def judged_run(
    machine: VirtualGPU,
    name: str = "code",
    *,
    completed: bool = True,
    no_verdict: bool = False,
    margin: str | None = None,
    assumptions: tuple[str, ...] = (),
) -> Built:
    """As `forecast_of_run`, for code of this name.

    Args:
        completed: it came to its end; else it ran out of memory.
        no_verdict: nothing may be said about whether it fits, for what ran is not all of it.
        margin: to be left free, as the user wrote it.
        assumptions: told before those of the recording.
    """
    source = RecordedSource(machine.recording())
    room = room_of_run(machine, margin)
    judgement = _judgement(machine, source, room, completed)
    if no_verdict:
        judgement = judgement._replace(verdict="unknown")
    return build_forecast(
        source,
        room,
        workload="code",
        model=name,
        settings={},
        allocator_config=machine.allocator_config,
        judgement=judgement,
        assumptions=assumptions,
    )


def room_of_run(machine: VirtualGPU, margin: str | None = None) -> Room:
    """The room that the code found, with what is uncertain about what it did."""
    several = machine.world_size > 1
    kind: JobKind = "several GPUs" if several else "one GPU, fp16 autocast" if machine.used_fp16_autocast else "one GPU"
    more = (*_deferred_frees(machine), *machine.library.uncertain())
    return room_of(machine.gpu, kind, world_size=machine.world_size, margin=margin, more=more)


def _deferred_frees(machine: VirtualGPU) -> list[Uncertainty]:
    """What waits for another stream, where the code gave tensors to one (`record_stream`)."""
    timeline = machine.timeline
    if not any(event.kind is EventKind.USE_STREAM for event in timeline.events):
        return []
    config = machine.allocator_config
    ahead, at_once = (peak_reserved_bytes(timeline, config, policy) for policy in ("ahead", "immediate"))
    return [
        Uncertainty(
            name="deferred frees",
            low_bytes=0,
            high_bytes=max(ahead - at_once, 0),
            counts_in="reserved",
            reason="tensors used on another stream (record_stream) are free once the GPU is through: at once, or far behind the CPU",
        )
    ]


def _judgement(machine: VirtualGPU, source: RecordedSource, room: Room, completed: bool) -> Judgement:
    """How the code fared on the GPU.

    Code that ran within a capacity has met its limit, and may have chosen its way by it: only a replay within the same capacity is
    what happened.
    """
    config = machine.allocator_config
    if machine.capacity_bytes is None:
        return judge(source, room, config)
    readings = source.read(config, machine.capacity_bytes)
    parts = room.parts(readings.peak_reserved_bytes)
    if not completed:
        note = "memory ran out: the peaks are those until then, and the code needs more"
        return Judgement("does_not_fit", readings, parts, (note,))
    verdict = room.verdict(readings.peak_reserved_bytes, parts)
    if machine.out_of_memory:
        note = "memory ran out, and the code went on: the peaks are those of what it did instead"
        return Judgement("tight", readings, parts, (note,))
    if readings.num_alloc_retries:
        retries = f"to stay within this GPU the allocator gave cached memory back {readings.num_alloc_retries} times, which costs time"
        return Judgement("tight", readings, parts, (retries,))
    return Judgement(verdict, readings, parts)
