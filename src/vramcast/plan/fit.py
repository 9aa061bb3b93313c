"""On which card a job fits, and how large it may be on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vramcast.errors import InputError
from vramcast.forecast.answer import NOT_SETTINGS
from vramcast.forecast.peaks import PeakSource
from vramcast.hardware import GPU, cuda_context_bytes
from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.options import MAX_BATCH
from vramcast.models import ModelConfig
from vramcast.plan.choice import choose_card
from vramcast.plan.fit_matrix import FitMatrix, FitRow
from vramcast.plan.known_peaks import KnownPeaks
from vramcast.plan.largest import FitResult, largest_batch, longest_sequence
from vramcast.plan.question import Question, question_of
from vramcast.progress import Progress

SHORTEST_LENGTH = 2
"""A loss needs two tokens; a single one takes a path of its own through most models."""


def fit(
    job: TrainingJob | GenerationJob,
    config: ModelConfig,
    gpus: Sequence[GPU],
    *,
    prices: Mapping[str, float] | None = None,
    source: Callable[[GPU], PeakSource] | None = None,
    progress: Progress | None = None,
) -> FitMatrix:
    """One job over many cards: the verdict as asked, the largest batch, the longest sequence, and the card to take.

    Args:
        job: its `gpu` and `gpu_memory` are not looked at.
        config: the model.
        gpus: the cards, each a row of the answer in this order.
        prices: US dollars per hour by canonical name.
        source: peaks of the job on a card, if not those of `vramcast.forecast.peaks`. Cards for which it gives the same object share
            their replays.
        progress: told after every card.

    Raises:
        InputError: the job cannot run on any of the cards, or its sequence is longer than the model's learned positions.
    """
    question = question_of(job, config)
    if source is not None:
        question = question._replace(source=source)
    rows = _rows(question, gpus, prices or {}, progress)
    return FitMatrix(
        workload=question.workload,
        model=config.name,
        batch_size=job.batch_size,
        length_field=question.length_field,
        length=question.length,
        longest_length=question.longest_length,
        rows=rows,
        choice=choose_card(rows),
        settings=question.job.model_dump(mode="json", exclude=NOT_SETTINGS),
        assumptions=(*config.assumptions, *_unused(prices or {}, gpus)),
    )


def _rows(
    question: Question, gpus: Sequence[GPU], prices: Mapping[str, float], progress: Progress | None
) -> tuple[FitRow, ...]:
    sources: dict[int, KnownPeaks] = {}
    rows, refusals = [], []
    for done, gpu in enumerate(gpus):
        if progress is not None:
            progress("placing the job on cards", done, len(gpus))
        card = _card(gpu, prices.get(gpu.name))
        try:
            known = _known_source(question.source(gpu), sources)
            answers = _answers(question, known, gpu)
        except InputError as error:
            refusals.append(error)
            rows.append(FitRow(**card, refusal=str(error)))
        else:
            rows.append(FitRow(**card, **answers))
    if refusals and len(refusals) == len(rows):
        raise refusals[0]
    return tuple(rows)


def _unused(prices: Mapping[str, float], gpus: Sequence[GPU]) -> list[str]:
    names = sorted(prices.keys() - {gpu.name for gpu in gpus})
    return [f"prices without effect, for their cards were not asked for: {', '.join(names)}"] if names else []


def _known_source(source: PeakSource, sources: dict[int, KnownPeaks]) -> KnownPeaks:
    """The memory of that source; it keeps the source alive, so that its id stays its own."""
    return sources.setdefault(id(source), KnownPeaks(source))


def _answers(question: Question, known: KnownPeaks, gpu: GPU) -> dict[str, Any]:
    batch_size, length = question.job.batch_size, question.length
    room, placement, peaks = question.placed(known, gpu, batch_size, length)
    used = room.device_used(peaks.reserved_bytes, placement.parts)
    largest = largest_batch(known, length, room.capacity_bytes, MAX_BATCH)
    longest = longest_sequence(
        known, batch_size, room.capacity_bytes, question.longest_length, shortest=SHORTEST_LENGTH
    )
    return {
        "verdict": placement.verdict,
        "peak_allocated_bytes": peaks.allocated_bytes,
        "peak_reserved_bytes": peaks.reserved_bytes,
        "device_used_bytes": peaks.reserved_bytes + room.outside_bytes,
        "device_used_bytes_low": used.low_bytes,
        "device_used_bytes_high": used.high_bytes,
        "num_alloc_retries": peaks.num_alloc_retries,
        "largest_batch": _judged(question, known, gpu, largest, (largest.largest, length)),
        "longest_length": _judged(question, known, gpu, longest, (batch_size, max(longest.largest, SHORTEST_LENGTH))),
    }


def _judged(question: Question, known: KnownPeaks, gpu: GPU, found: FitResult, cell: tuple[int, int]) -> FitResult:
    """The largest size with the verdict that it has on the card; it runs, but perhaps with nothing to spare."""
    if not found.largest:
        return found
    return found.model_copy(update={"verdict": question.placed(known, gpu, *cell)[1].verdict})


def _card(gpu: GPU, price: float | None) -> dict[str, Any]:
    context = cuda_context_bytes(gpu)
    return {
        "gpu": gpu.name,
        "gpu_memory_bytes": gpu.cuda_total_bytes,
        "memory_bandwidth_bytes_per_second": gpu.memory_bandwidth_bytes_per_second,
        "context_bytes": context.bytes,
        "context_uncertainty_bytes": context.uncertainty_bytes,
        "usd_per_hour": price,
    }
