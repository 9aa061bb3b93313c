"""Recording or tape and a GPU in, forecast out."""

from typing import Any, Literal, NamedTuple

from vramcast.allocator import AllocatorConfig
from vramcast.forecast.forecast import BreakdownItem, Forecast, Instant
from vramcast.forecast.readings import Readings
from vramcast.forecast.room import Room, Verdict
from vramcast.forecast.source import Source
from vramcast.forecast.uncertainty import Uncertainty
from vramcast.progress import Progress
from vramcast.units import format_bytes


class Judgement(NamedTuple):
    """How a job fares on a card."""

    verdict: Verdict
    readings: Readings
    """Within the card where the job runs there; without a limit where it does not."""
    parts: tuple[Uncertainty, ...]
    notes: tuple[str, ...] = ()


class Built(NamedTuple):
    """A forecast, and the replay it was read from."""

    forecast: Forecast
    readings: Readings


def build_forecast(
    source: Source,
    room: Room,
    *,
    workload: Literal["training", "generation", "code"],
    model: str,
    settings: dict[str, Any],
    allocator_config: AllocatorConfig,
    assumptions: tuple[str, ...] = (),
    judgement: Judgement | None = None,
    progress: Progress | None = None,
) -> Built:
    """Replay a recording or a tape for one GPU and say what it comes to; a `judgement` stands for the replay."""
    verdict, readings, parts, notes = judgement or judge(source, room, allocator_config, progress)
    forecast = Forecast(
        workload=workload,
        model=model,
        parameters=source.parameters,
        peak_allocated_bytes=readings.peak_allocated_bytes,
        **room.fields(readings.peak_reserved_bytes, parts),
        peak_phase=readings.peak_phase,
        breakdown=tuple(
            BreakdownItem(category=category, bytes=nbytes) for category, nbytes in readings.breakdown.items()
        ),
        instants=tuple(Instant(name=name, allocated_bytes=nbytes) for name, nbytes in readings.instants.items()),
        flops_per_step=source.flops_per_step,
        engine=source.engine,
        verdict=verdict,
        assumptions=(*assumptions, *_standing_assumptions(source, room), *notes, *source.assumptions),
        settings=settings,
        provenance=source.versions,
    )
    return Built(forecast, readings)


def judge(source: Source, room: Room, config: AllocatorConfig, progress: Progress | None = None) -> Judgement:
    """Replay without a limit, and within the card where that does not fit."""
    natural = source.read(config, progress=progress)
    placement, readings = room.place(natural, lambda capacity: source.read(config, capacity))
    notes: list[str] = []
    if room.capacity_bytes <= 0:
        notes.append("what is outside PyTorch's allocator alone fills this GPU")
    if placement.within_bytes is not None:
        reserved = format_bytes(natural.peak_reserved_bytes)
        retries = f"the allocator must give cached memory back {readings.num_alloc_retries} times"
        notes.append(f"with room it would reserve {reserved}; to stay within this GPU {retries}, which costs time")
    return Judgement(placement.verdict, readings, placement.parts, tuple(notes))


def _standing_assumptions(source: Source, room: Room) -> list[str]:
    context, gpu = room.context, room.gpu
    ends = f"{format_bytes(context.low_bytes)} to {format_bytes(context.high_bytes)}"
    lines = [f"CUDA context {format_bytes(context.bytes)} ({ends}): {context.source}"]
    if room.nccl.high_bytes:
        ends = f"{format_bytes(room.nccl.low_bytes)} to {format_bytes(room.nccl.high_bytes)}"
        lines.append(f"NCCL's buffers {format_bytes(room.nccl.bytes)} ({ends}): {room.nccl.source}")
    if not gpu.cuda_total_is_read and gpu.cuda_total_low_bytes != gpu.cuda_total_high_bytes:
        lines.append(f"CUDA offers {format_bytes(gpu.cuda_total_bytes)} of this GPU: {gpu.cuda_total_source}")
    return lines + [f"kernel {kernel}, {count} calls" for kernel, count in source.kernels.items()]
