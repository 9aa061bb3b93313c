"""On which card a job fits, and how large it may be on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vramcast.errors import InputError
from vramcast.forecast.peaks import PeakSource
from vramcast.hardware import GPU
from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.options import MAX_BATCH
from vramcast.models import ModelConfig
from vramcast.plan.choice import choose_card
from vramcast.plan.fit_matrix import FitMatrix, FitRow
from vramcast.plan.known_peaks import KnownPeaks
from vramcast.plan.largest import largest_batch, longest_sequence
from vramcast.plan.question import NOT_OF_THE_JOB, Question, question_of
from vramcast.plan.room import Placement, Room, room_of
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
        settings=question.job.model_dump(mode="json", exclude=NOT_OF_THE_JOB),
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
        card, room = _card(gpu, prices.get(gpu.name)), room_of(gpu)
        try:
            known = _known_source(question.source(gpu), sources)
            placement = room.place(known, question.job.batch_size, question.length)
        except InputError as error:
            refusals.append(error)
            rows.append(FitRow(**card, refusal=str(error)))
        else:
            rows.append(FitRow(**card, **_answers(question, known, room, placement)))
    if refusals and len(refusals) == len(rows):
        raise refusals[0]
    return tuple(rows)


def _unused(prices: Mapping[str, float], gpus: Sequence[GPU]) -> list[str]:
    names = sorted(prices.keys() - {gpu.name for gpu in gpus})
    return [f"prices without effect, for their cards were not asked for: {', '.join(names)}"] if names else []


def _known_source(source: PeakSource, sources: dict[int, KnownPeaks]) -> KnownPeaks:
    """The memory of that source; it keeps the source alive, so that its id stays its own."""
    return sources.setdefault(id(source), KnownPeaks(source))


def _answers(question: Question, known: KnownPeaks, room: Room, placement: Placement) -> dict[str, Any]:
    peaks, capacity = placement.peaks, room.capacity_bytes
    return {
        "verdict": placement.verdict,
        "peak_allocated_bytes": peaks.allocated_bytes,
        "peak_reserved_bytes": peaks.reserved_bytes,
        "device_used_bytes": peaks.reserved_bytes + room.context_bytes,
        "num_alloc_retries": peaks.num_alloc_retries,
        "largest_batch": largest_batch(known, question.length, capacity, MAX_BATCH),
        "longest_length": longest_sequence(
            known, question.job.batch_size, capacity, question.longest_length, shortest=SHORTEST_LENGTH
        ),
    }


def _card(gpu: GPU, price: float | None) -> dict[str, Any]:
    room = room_of(gpu)
    return {
        "gpu": gpu.name,
        "gpu_memory_bytes": gpu.memory_total_bytes,
        "memory_bandwidth_bytes_per_second": gpu.memory_bandwidth_bytes_per_second,
        "context_bytes": room.context_bytes,
        "context_uncertainty_bytes": room.context_uncertainty_bytes,
        "usd_per_hour": price,
    }
