"""The largest batch and the longest sequence that run within a capacity, each proven by the replay of its neighbour."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from vramcast.forecast.peaks import PeakSource
from vramcast.forecast.room import Verdict
from vramcast.plan.known_peaks import known_peaks
from vramcast.plan.search import Line, Search


class FitResult(BaseModel):
    """The largest size that runs, with its peaks in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    largest: int
    """This size runs and the next one does not, or is past the limit; 0 where even 1 does not run."""
    stopped_by: Literal["memory", "limit"]
    """limit: there is memory for more than was to be asked, such as past the model's context length."""
    peak_allocated_bytes: int | None = None
    """At the largest size; None where nothing runs."""
    peak_reserved_bytes: int | None = None
    num_alloc_retries: int = 0
    """How often cached memory must be given back for it to run, each of which costs time."""
    verdict: Verdict | None = None
    """On the card it was asked for: a size that runs by the best estimate may be tight; None where nothing runs."""
    shortfall_bytes: int = 0
    """What is missing for the smallest size to run without giving memory back; 0 where it runs."""


def largest_batch(source: PeakSource, sequence_length: int, capacity_bytes: int, limit: int) -> FitResult:
    """The largest batch that runs at a sequence length.

    A size runs if what it reserves stays within the capacity, or if the allocator completes within it by giving cached memory back. The
    answer runs and the next size does not, each known from a replay of its own or, for the latter, from live tensors that alone exceed
    the capacity. Fragmentation can let a still larger size run beyond one that does not; such islands are not looked for.

    Args:
        source: peaks of the job.
        sequence_length: tokens of each sequence (of each prompt, for generation).
        capacity_bytes: what the caching allocator may reserve.
        limit: no batch above this one is asked for.
    """
    return _largest(source, Line("batch_size", sequence_length), capacity_bytes, limit)


def longest_sequence(
    source: PeakSource, batch_size: int, capacity_bytes: int, limit: int, *, shortest: int = 1
) -> FitResult:
    """The longest sequence that runs at a batch size; `limit` is what the model takes. Otherwise as `largest_batch`.

    Sequences below `shortest` are not asked for; where it runs, they are taken to run.
    """
    return _largest(source, Line("length", batch_size, min(shortest, limit)), capacity_bytes, limit)


def _largest(source: PeakSource, line: Line, capacity_bytes: int, limit: int) -> FitResult:
    known = known_peaks(source)
    largest = Search(known, line, capacity_bytes, limit).find()
    if not largest:
        missing = known.peaks(*line.cell(1)).reserved_bytes - capacity_bytes
        return FitResult(largest=0, stopped_by="memory", shortfall_bytes=missing)
    peaks = known.peaks(*line.cell(largest), capacity_bytes)
    return FitResult(
        largest=largest,
        stopped_by="limit" if largest == limit else "memory",
        peak_allocated_bytes=peaks.allocated_bytes,
        peak_reserved_bytes=peaks.reserved_bytes,
        num_alloc_retries=peaks.num_alloc_retries,
    )
