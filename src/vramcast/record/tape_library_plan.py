"""Which tapes ship: the questions of tape_library.toml, asked of every preset, and the tapes that answer them. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import product
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from vramcast.errors import RecordingError
from vramcast.forecast.generation_tapes import generation_values, why_not_generation
from vramcast.hardware import GPU, find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.options import Attention, CacheKind, Checkpointing, GenerationPrecision, Optimizer, Precision
from vramcast.models import ModelConfig, load_model, preset_names
from vramcast.record.regimes import MASK_ALIGNMENT, guards, recording_values, size_guards
from vramcast.tapes import Tape, UnrepeatedLayers, why_not
from vramcast.tapes.archive import archive_name
from vramcast.tapes.dimensions import model_values
from vramcast.tapes.expressions import Expression
from vramcast.tapes.key import Key, canonical, generation_key, model_key, optimizer_key
from vramcast.tapes.tape import RECORDED_MICRO_BATCHES, Guard

Part = Literal["model", "optimizer", "generation"]
BATCH_SIZES = (1, 8)
SEQUENCE_LENGTH = 1024
"""Where the model's context length and window allow it."""
MAX_GRAD_NORM = 1.0
DEFAULT_GPU = "a100-80gb"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str = DEFAULT_GPU
    model_types: list[str] = []
    """None named: all."""


class ModelRow(_Row):
    """Questions about forward and backward."""

    part: ClassVar[Part] = "model"
    precision: list[Precision]
    attention: list[Attention]
    checkpointing: list[Checkpointing]
    dropout: list[Literal["own", "none"]]
    accumulation: list[bool]
    window: list[Literal["below", "reached"]]

    def jobs(self, preset: str, config: ModelConfig) -> Iterator[TrainingJob]:
        """Every combination for a preset."""
        for window, batch_size, precision, attention, checkpointing, dropout, accumulation in product(
            self.window,
            BATCH_SIZES,
            self.precision,
            self.attention,
            self.checkpointing,
            self.dropout,
            self.accumulation,
        ):
            length = sequence_length(config, window)
            if length is not None:
                yield TrainingJob(
                    model=preset,
                    gpu=self.gpu,
                    batch_size=batch_size,
                    sequence_length=length,
                    precision=precision,
                    attention=attention,
                    checkpointing=checkpointing,
                    dropout=0.0 if dropout == "none" else None,
                    gradient_accumulation_steps=RECORDED_MICRO_BATCHES if accumulation else 1,
                )


class OptimizerRow(_Row):
    """Questions about the optimizer's step."""

    part: ClassVar[Part] = "optimizer"
    precision: list[Precision]
    optimizer: list[Optimizer]
    clipping: list[bool]

    def jobs(self, preset: str, config: ModelConfig) -> Iterator[TrainingJob]:
        """Every combination for a preset."""
        for precision, optimizer, clipping in product(self.precision, self.optimizer, self.clipping):
            yield TrainingJob(
                model=preset,
                gpu=self.gpu,
                batch_size=BATCH_SIZES[-1],
                sequence_length=sequence_length(config, "below"),
                precision=precision,
                optimizer=optimizer,
                max_grad_norm=MAX_GRAD_NORM if clipping else None,
            )


class GenerationRow(_Row):
    """Questions about a generation."""

    part: ClassVar[Part] = "generation"
    precision: list[GenerationPrecision]
    attention: list[Attention]
    cache: list[CacheKind]

    def jobs(self, preset: str, config: ModelConfig) -> Iterator[GenerationJob]:
        """Every combination for a preset."""
        length = sequence_length(config, "below")
        assert length is not None
        for batch_size, precision, attention, cache in product(BATCH_SIZES, self.precision, self.attention, self.cache):
            yield GenerationJob(
                model=preset,
                gpu=self.gpu,
                batch_size=batch_size,
                prompt_length=length // 2,
                max_new_tokens=length // 4,
                precision=precision,
                attention=attention,
                cache=cache,
            )


_AnyRow = ModelRow | OptimizerRow | GenerationRow


class Selection(BaseModel):
    """What tape_library.toml says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_types: list[str] = []
    """Families that ship; none named: all."""
    model: list[ModelRow]
    optimizer: list[OptimizerRow]
    generation: list[GenerationRow] = []


@dataclass(frozen=True)
class Question:
    """A job that a shipped tape answers."""

    job: TrainingJob | GenerationJob
    config: ModelConfig
    gpu: GPU

    def why_not(self, tape: Tape) -> str | None:
        """The first condition of a tape of the job's settings that does not hold for the job; None if it answers it."""
        assert self.gpu.compute_capability is not None, "the plan asks for GPUs that have one"
        if isinstance(self.job, GenerationJob):
            values = generation_values(self.job, self.config, self.gpu, tape.versions["torch"])
            return why_not_generation(tape, values, self.gpu)
        assert self.job.sequence_length is not None
        values = {**model_values(self.config), "B": self.job.batch_size, "T": self.job.sequence_length}
        return why_not(tape, values, self.gpu.compute_capability)

    def __str__(self) -> str:
        said = self.job.model_dump(exclude_defaults=True, exclude={"model"})
        return f"{self.job.model} ({', '.join(f'{name}={value}' for name, value in said.items())})"


@dataclass(frozen=True)
class PlannedTape:
    """A tape that ships."""

    part: Part
    archive: str
    """File name of its archive."""
    key: Key
    guards: tuple[Guard, ...]
    """Of the regime it is recorded in."""
    questions: list[Question] = field(default_factory=list)
    """What it has to answer; it is recorded from the first."""
    variant: int = 0
    """How many tapes of this regime were recorded before, which left these questions open: those of fewer layers, say."""

    @property
    def regime(self) -> str:
        """A short name of the settings, the conditions and the GPU that it is recorded for."""
        said = [self.key, [str(guard) for guard in self.guards], self.questions[0].job.gpu]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """A short name of what is recorded."""
        return f"{self.regime}-{self.variant}"

    def without(self, answered: Tape) -> PlannedTape | None:
        """What is left to record where this tape answers some questions; None if it answers all.

        Raises:
            RecordingError: it does not answer the question that it was recorded from.
        """
        left = [question for question in self.questions if question.why_not(answered) is not None]
        if left and left[0] is self.questions[0]:
            raise RecordingError(f"a tape was recorded, but {left[0].why_not(answered)}")
        return replace(self, questions=left, variant=self.variant + 1) if left else None

    def __str__(self) -> str:
        return f"{self.part} of {self.questions[0]}"


def selection() -> Selection:
    """What ships, as tape_library.toml says."""
    text = resources.files("vramcast.record").joinpath("tape_library.toml").read_text(encoding="utf-8")
    return Selection.model_validate(tomllib.loads(text))


def planned_tapes(
    selected: Selection | None = None, only: Sequence[str] = (), presets: Iterable[str] | None = None
) -> list[PlannedTape]:
    """Every tape that ships, those of an archive together, in a fixed order.

    Args:
        selected: what is asked; tape_library.toml if not given.
        only: model types; all if none is named.
        presets: whose questions are to be answered; all presets if not given.
    """
    selected = selected or selection()
    rows: list[_AnyRow] = [*selected.model, *selected.optimizer, *selected.generation]
    found: dict[str, PlannedTape] = {}
    for preset in preset_names() if presets is None else presets:
        config = load_model(preset, offline=True)
        if any(chosen and config.model_type not in chosen for chosen in (only, selected.model_types)):
            continue
        for row in rows:
            if not row.model_types or config.model_type in row.model_types:
                _plan_row(found, row, preset, config)
    return sorted(found.values(), key=lambda planned: planned.archive)


def _plan_row(found: dict[str, PlannedTape], row: _AnyRow, preset: str, config: ModelConfig) -> None:
    gpu = find_gpu(row.gpu)
    for job in row.jobs(preset, config):
        try:
            planned = _planned(row.part, Question(job, config, gpu))
        except UnrepeatedLayers:
            return  # no job of this model has a tape
        known = found.setdefault(planned.regime, planned)
        if known is not planned:
            known.questions.extend(planned.questions)


def _planned(part: Part, question: Question) -> PlannedTape:
    job, config = question.job, question.config
    if isinstance(job, GenerationJob):
        key, _ = canonical(generation_key(job, config))
        conditions = size_guards(guards(config, recording_values(config, job.batch_size, job.prompt_length)[0]))
        one_sequence = Guard("==" if job.batch_size == 1 else ">", Expression(1, ("B",)), Expression(1))
        heads = tuple(guard for guard in _head_guards(config, job))
        return PlannedTape(
            part, archive_name(config.model_type, key), key, (*conditions, one_sequence, *heads), [question]
        )
    assert job.sequence_length is not None
    key, _ = canonical((model_key if part == "model" else optimizer_key)(job, config))
    conditions = guards(config, recording_values(config, job.batch_size, job.sequence_length)[0])
    if part == "optimizer":
        conditions = size_guards(conditions)
    return PlannedTape(part, archive_name(config.model_type, key), key, conditions, [question])


def _head_guards(config: ModelConfig, job: GenerationJob) -> tuple[Guard, ...]:
    """Conditions on heads and widths: those of a training job of the same shape."""
    found = guards(config, recording_values(config, job.batch_size, job.prompt_length)[0])
    return tuple(guard for guard in found if not {"T", "W"} & {*guard.left.atoms, *guard.right.atoms})


def sequence_length(config: ModelConfig, window: Literal["below", "reached"]) -> int | None:
    """Tokens to ask for on this side of a model's sliding window; None where it has no such side.

    A window is reached by a length that is aligned, as lengths that people ask for are.
    """
    sizes = config.dimensions
    if window == "below":
        longest = sizes.context_length if sizes.sliding_window is None else sizes.sliding_window - 1
        return min(SEQUENCE_LENGTH, longest, sizes.context_length)
    if sizes.sliding_window is None:
        return None
    length = -(-sizes.sliding_window // MASK_ALIGNMENT) * MASK_ALIGNMENT
    return length if length <= sizes.context_length else None
