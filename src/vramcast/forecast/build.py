"""Recording or tape and a GPU in, forecast out."""

from typing import Any, Literal, NamedTuple

from vramcast.allocator import AllocatorConfig
from vramcast.forecast.forecast import BreakdownItem, Forecast, Instant, Verdict
from vramcast.forecast.readings import Readings
from vramcast.forecast.source import Source
from vramcast.hardware import GPU, ContextEstimate, allocator_capacity_bytes, cuda_context_bytes
from vramcast.progress import Progress
from vramcast.units import format_bytes


class Judgement(NamedTuple):
    """How a job fares on a card."""

    verdict: Verdict
    readings: Readings
    """Within the card where the job runs there; without a limit where it does not."""
    notes: tuple[str, ...] = ()


def build_forecast(
    source: Source,
    gpu: GPU,
    *,
    workload: Literal["training", "generation", "code"],
    model: str,
    settings: dict[str, Any],
    allocator_config: AllocatorConfig,
    assumptions: tuple[str, ...] = (),
    judgement: Judgement | None = None,
    progress: Progress | None = None,
) -> Forecast:
    """Replay a recording or a tape for one GPU and say what it comes to.

    Reserved memory depends on the card: near its limit the allocator gives cached memory back and tries again. So the replay is done
    without a limit first; only where that natural peak does not fit is it done again within the card. A `judgement` stands for both.
    """
    context = cuda_context_bytes(gpu)
    verdict, readings, notes = judgement or judge(source, gpu, allocator_config, progress)
    return Forecast(
        workload=workload,
        model=model,
        parameters=source.parameters,
        peak_allocated_bytes=readings.peak_allocated_bytes,
        peak_reserved_bytes=readings.peak_reserved_bytes,
        device_used_bytes=readings.peak_reserved_bytes + context.bytes,
        peak_phase=readings.peak_phase,
        breakdown=tuple(
            BreakdownItem(category=category, bytes=nbytes) for category, nbytes in readings.breakdown.items()
        ),
        instants=tuple(Instant(name=name, allocated_bytes=nbytes) for name, nbytes in readings.instants.items()),
        flops_per_step=source.flops_per_step,
        engine=source.engine,
        gpu=gpu.name,
        gpu_memory_bytes=gpu.memory_total_bytes,
        verdict=verdict,
        assumptions=(*assumptions, *_standing_assumptions(source, context), *notes, *source.assumptions),
        context_bytes=context.bytes,
        context_uncertainty_bytes=context.uncertainty_bytes,
        settings=settings,
        provenance=source.versions,
    )


def judge(source: Source, gpu: GPU, config: AllocatorConfig, progress: Progress | None = None) -> Judgement:
    """Replay without a limit, and within the card where that does not fit."""
    context = cuda_context_bytes(gpu)
    capacity = allocator_capacity_bytes(gpu)
    natural = source.read(config, progress=progress)
    headroom = capacity - natural.peak_reserved_bytes
    if headroom >= 0:
        return judge_headroom(natural, headroom, context)
    if capacity <= 0:
        return Judgement("does_not_fit", natural, ("the CUDA context alone fills this GPU",))
    limited = source.read(config, capacity)
    if limited.out_of_memory:
        return Judgement("does_not_fit", natural)
    reserved = format_bytes(natural.peak_reserved_bytes)
    retries = f"the allocator must give cached memory back {limited.num_alloc_retries} times"
    note = f"with room it would reserve {reserved}; to stay within this GPU {retries}, which costs time"
    return Judgement("tight", limited, (note,))


def judge_headroom(readings: Readings, headroom: int, context: ContextEstimate) -> Judgement:
    """Of a job that stays within the card by `headroom` bytes."""
    if headroom >= context.uncertainty_bytes:
        return Judgement("fits", readings)
    margin = f"the headroom of {format_bytes(headroom)} is within the uncertainty of the CUDA context"
    return Judgement("tight", readings, (f"{margin} (± {format_bytes(context.uncertainty_bytes)})",))


def _standing_assumptions(source: Source, context: ContextEstimate) -> list[str]:
    used = format_bytes(context.bytes)
    lines = [f"CUDA context {used} ± {format_bytes(context.uncertainty_bytes)}: {context.source}"]
    return lines + [f"kernel {kernel}, {count} calls" for kernel, count in source.kernels.items()]
