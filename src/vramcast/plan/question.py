"""A job without a card: what a search varies, how far, and where its peaks come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from vramcast.forecast.answer import DEFAULT_SEQUENCE_LENGTH, check_length
from vramcast.forecast.job_room import room_for
from vramcast.forecast.peaks import Peaks, PeakSource, peak_source
from vramcast.forecast.room import Placement, Room
from vramcast.hardware import GPU
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig
from vramcast.plan.generation_peaks import generation_peak_source

LengthField = Literal["sequence_length", "prompt_length"]


class Question(NamedTuple):
    """One job to be put on any card, at any batch size and length."""

    workload: Literal["training", "generation"]
    job: TrainingJob | GenerationJob
    """As asked, with its length filled in."""
    config: ModelConfig
    length_field: LengthField
    """What the second size is: tokens of each sequence (training) or of each prompt (generation)."""
    length: int
    longest_length: int
    """What the model takes: its context length, less the new tokens of a generation; at least the length asked for."""
    source: Callable[[GPU], PeakSource]
    """Peaks on one card; the same object for cards that behave alike."""

    def room(self, gpu: GPU, batch_size: int, length: int) -> Room:
        """What a card has room for, as this job finds it at a size."""
        sizes = {"batch_size": batch_size, self.length_field: length}
        return room_for(self.job.model_copy(update=sizes), self.config, gpu)

    def placed(self, source: PeakSource, gpu: GPU, batch_size: int, length: int) -> tuple[Room, Placement, Peaks]:
        """The job of that size on a card: what it finds, its verdict, and the peaks it is of."""
        room = self.room(gpu, batch_size, length)

        def within(capacity_bytes: int) -> Peaks:
            live = source.live_bytes(batch_size, length)
            if live > capacity_bytes:
                return Peaks(live, live, out_of_memory=True)
            return source.peaks(batch_size, length, capacity_bytes)

        return room, *room.place(source.peaks(batch_size, length), within)


def question_of(job: TrainingJob | GenerationJob, config: ModelConfig) -> Question:
    """The question that a job asks.

    Raises:
        InputError: the sequence is longer than the model's learned positions.
    """
    return _training(job, config) if isinstance(job, TrainingJob) else _generation(job, config)


def _training(job: TrainingJob, config: ModelConfig) -> Question:
    context = config.dimensions.context_length
    length = job.sequence_length or min(context, DEFAULT_SEQUENCE_LENGTH)
    check_length(config, "sequence_length", length)
    job = job.model_copy(update={"sequence_length": length})
    return Question(
        workload="training",
        job=job,
        config=config,
        length_field="sequence_length",
        length=length,
        longest_length=max(context, length),
        source=lambda gpu: peak_source(job, config, gpu),
    )


def _generation(job: GenerationJob, config: ModelConfig) -> Question:
    check_length(config, "prompt_length + max_new_tokens", job.prompt_length + job.max_new_tokens)
    return Question(
        workload="generation",
        job=job,
        config=config,
        length_field="prompt_length",
        length=job.prompt_length,
        longest_length=max(config.dimensions.context_length - job.max_new_tokens, job.prompt_length),
        source=lambda gpu: generation_peak_source(job, config, gpu),
    )
