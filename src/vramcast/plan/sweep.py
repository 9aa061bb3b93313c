"""A grid of batch sizes and sequence lengths, each cell a replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from vramcast.errors import InputError
from vramcast.forecast.answer import NOT_SETTINGS, check_length
from vramcast.forecast.forecast import SCHEMA_VERSION
from vramcast.forecast.peaks import PeakSource, peak_source
from vramcast.forecast.room import Verdict
from vramcast.hardware import GPU, cuda_context_bytes
from vramcast.job import TrainingJob
from vramcast.job.options import MAX_BATCH, MAX_TOKENS
from vramcast.models import ModelConfig
from vramcast.plan.question import Question, question_of
from vramcast.progress import Progress

NOT_OF_A_GRID = NOT_SETTINGS | {"batch_size", "sequence_length"}


class SweepRow(BaseModel):
    """One cell, in bytes. A quick sweep knows the live tensors alone, and no verdict but that they are too many."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch_size: int
    sequence_length: int
    live_bytes: int
    """Live tensors at their peak: a lower bound of what is allocated."""
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    device_used_bytes: int | None = None
    device_used_bytes_low: int | None = None
    device_used_bytes_high: int | None = None
    verdict: Verdict | None = None
    """None where a quick sweep cannot tell."""


class Sweep(BaseModel):
    """The cells, batch sizes outside and sequence lengths inside."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    workload: str = "training"
    model: str
    gpu: str
    gpu_memory_bytes: int
    """What CUDA offers of the card."""
    context_bytes: int
    context_uncertainty_bytes: int
    quick: bool
    batch_sizes: tuple[int, ...]
    sequence_lengths: tuple[int, ...]
    rows: tuple[SweepRow, ...]
    settings: dict[str, Any] = {}
    """The rest of the job, defaults filled in."""
    assumptions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `--json`: plain dicts, lists, strings and integers."""
        return self.model_dump(mode="json")


def sweep(
    job: TrainingJob,
    config: ModelConfig,
    gpu: GPU,
    batch_sizes: Sequence[int],
    sequence_lengths: Sequence[int],
    *,
    quick: bool = False,
    source: PeakSource | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Peaks of a training job over a grid.

    Args:
        job: its own sizes and GPU are not looked at.
        config: the model.
        gpu: the card of the verdicts.
        batch_sizes: sequences in one forward.
        sequence_lengths: tokens of each.
        quick: live tensors only, with no replay through the allocator.
        source: peaks of the job, if not those of `vramcast.forecast.peaks`.
        progress: told before every cell.

    Raises:
        InputError: an empty grid, or a sequence longer than the model's learned positions.
    """
    _check_sizes("batch_sizes", batch_sizes, MAX_BATCH)
    _check_sizes("sequence_lengths", sequence_lengths, MAX_TOKENS)
    check_length(config, "sequence_lengths", max(sequence_lengths))
    source, question = source or peak_source(job, config, gpu), question_of(job, config)
    context = cuda_context_bytes(gpu)
    row, rows = _quick_row if quick else _row, list[SweepRow]()
    for batch_size in batch_sizes:
        for sequence_length in sequence_lengths:
            if progress is not None:
                progress("filling the grid", len(rows), len(batch_sizes) * len(sequence_lengths))
            rows.append(row(question, source, gpu, batch_size, sequence_length))
    return Sweep(
        model=config.name,
        gpu=gpu.name,
        gpu_memory_bytes=gpu.cuda_total_bytes,
        context_bytes=context.bytes,
        context_uncertainty_bytes=context.uncertainty_bytes,
        quick=quick,
        batch_sizes=tuple(batch_sizes),
        sequence_lengths=tuple(sequence_lengths),
        rows=tuple(rows),
        settings=job.model_dump(mode="json", exclude=NOT_OF_A_GRID),
        assumptions=config.assumptions,
    )


def _check_sizes(field: str, sizes: Sequence[int], limit: int) -> None:
    if not sizes:
        raise InputError(field, "", "give at least one size")
    for size in sizes:
        if not 1 <= size <= limit:
            raise InputError(field, size, f"must be between 1 and {limit}")


def _row(question: Question, source: PeakSource, gpu: GPU, batch_size: int, sequence_length: int) -> SweepRow:
    room, placement, peaks = question.placed(source, gpu, batch_size, sequence_length)
    used = room.device_used(peaks.reserved_bytes, placement.parts)
    return SweepRow(
        batch_size=batch_size,
        sequence_length=sequence_length,
        live_bytes=source.live_bytes(batch_size, sequence_length),
        peak_allocated_bytes=peaks.allocated_bytes,
        peak_reserved_bytes=peaks.reserved_bytes,
        device_used_bytes=peaks.reserved_bytes + room.outside_bytes,
        device_used_bytes_low=used.low_bytes,
        device_used_bytes_high=used.high_bytes,
        verdict=placement.verdict,
    )


def _quick_row(question: Question, source: PeakSource, gpu: GPU, batch_size: int, sequence_length: int) -> SweepRow:
    live = source.live_bytes(batch_size, sequence_length)
    most = question.room(gpu, batch_size, sequence_length).most_capacity_bytes
    return SweepRow(
        batch_size=batch_size,
        sequence_length=sequence_length,
        live_bytes=live,
        verdict="does_not_fit" if live > most else None,
    )
