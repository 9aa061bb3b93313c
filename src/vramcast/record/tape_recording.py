"""Records the tape of a training job: three runs at small dimensions, then a few at others to check it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from vramcast.errors import RecordingError
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.record.operator_building import Recordings
from vramcast.record.references import StepLayout
from vramcast.record.regimes import (
    RECORDED_REPETITIONS,
    checking_values,
    composite_letters,
    config_at,
    guards,
    recording_values,
    size_guards,
    symbol_values,
)
from vramcast.record.symbols import Symbols
from vramcast.record.tape_building import TapeBuilder, TapeParts, attention_guards
from vramcast.record.tape_checking import TapeChecker
from vramcast.record.training import record_training
from vramcast.tapes.composing import OPTIMIZER_MARK, check_separable
from vramcast.tapes.dimensions import gpu_values, model_values
from vramcast.tapes.key import canonical, model_key, optimizer_key
from vramcast.tapes.structure import layer_pattern
from vramcast.tapes.tape import RECORDED_MICRO_BATCHES, AllocRow, Program, Row, Section, Segment, Tape
from vramcast.timeline import Recording

_STEPS = 3
_CHECKED = 2
"""Number of the set of dimensions that a tape is compared with a plain trace at."""
_USUAL_RUNS = 6
_COUNTED = re.compile(r" \(\d+ times\)$")
_OF_SIZES = "attention takes the math path"
"""Sentences that quote sizes; they are said anew from the guards."""


def record_model_tape(job: TrainingJob, config: ModelConfig, gpu: GPU, *, progress: Progress | None = None) -> Tape:
    """The tape of forward and backward of all jobs that take the same path as this one.

    `job.sequence_length` must be set. The optimizer's step in it is that of plain SGD, which allocates nothing; put another in its
    place with `vramcast.tapes.composing`.

    Raises:
        RecordingError: what the job does cannot be made into a tape; the message says where.
        UnrepeatedLayers: the model's layers follow no pattern.
    """
    plain = job.model_copy(update={"optimizer": "sgd", "max_grad_norm": None})
    key = canonical(model_key(job, config))[0]

    def finished(tape: Tape) -> Tape:
        check_separable(tape)
        return replace(tape, key=key)

    return _TapeRecorder(plain, config, gpu, progress).tape(finished)


def record_optimizer_tape(job: TrainingJob, config: ModelConfig, gpu: GPU, *, progress: Progress | None = None) -> Tape:
    """The tape of the optimizer's step of all jobs that take the same path as this one; errors as for `record_model_tape`.

    Parameters alone decide what an optimizer allocates, so the batch is small and of no account.
    """
    update = {
        "batch_size": 2,
        "sequence_length": 2,
        "attention": "eager",
        "dropout": None,
        "checkpointing": "none",
        "gradient_accumulation_steps": 1,
        "precision": _PRECISION_OF_STEP.get(job.precision, job.precision),
    }
    key = canonical(optimizer_key(job, config))[0]
    recorder = _TapeRecorder(job.model_copy(update=update), config, gpu, progress, ("after_load", OPTIMIZER_MARK))
    return recorder.tape(lambda tape: replace(_optimizer_alone(tape), key=key))


_PRECISION_OF_STEP = {"amp-bf16": "fp32", "fp16": "bf16"}
"""fp32 weights without a scaler; weights of either half take the same memory, and one tape serves both."""


def _optimizer_alone(tape: Tape) -> Tape:
    check_separable(tape)
    used = {tape.program.load, tape.program.first[2], tape.program.steady[2]}
    sections = tuple(
        section if number in used else Section(section.mark, ()) for number, section in enumerate(tape.sections)
    )
    return without_unused(replace(tape, sections=sections, guards=size_guards(tape.guards), attention=(), kernels={}))


class _TapeRecorder:
    """Records one job at small dimensions, and checks what became of it."""

    def __init__(
        self,
        job: TrainingJob,
        config: ModelConfig,
        gpu: GPU,
        progress: Progress | None,
        checked_marks: tuple[str, ...] | None = None,
    ) -> None:
        assert job.sequence_length is not None
        self._job, self._config, self._gpu, self._progress = job, config, gpu, progress
        asked = (config, job.batch_size, job.sequence_length)
        self._sets = (*recording_values(*asked), checking_values(*asked))
        self._pattern = layer_pattern(config)
        self._micro_batches = 1 if job.gradient_accumulation_steps == 1 else RECORDED_MICRO_BATCHES
        self._runs = 0
        self._runs_model = checked_marks is None
        self._checker = TapeChecker(
            partial(self._record, _CHECKED), self._checked_values, self._capability, self._micro_batches, checked_marks
        )

    @property
    def _capability(self) -> tuple[int, int]:
        return self._gpu.kernel_capability

    def tape(self, finished: Callable[[Tape], Tape]) -> Tape:
        """The tape, brought into its last form by `finished` before it is checked."""
        tape = self._checker.checked(finished(self._folded_tape()), RECORDED_REPETITIONS)
        layers = self._config.dimensions.num_hidden_layers
        if layers >= tape.min_layers:
            return tape
        return self._checker.checked_literally(finished(self._literal_tape(layers)), layers)

    def _folded_tape(self) -> Tape:
        pattern = self._pattern
        layers = RECORDED_REPETITIONS * pattern.period + pattern.left_over
        longer = self._record(0, layers + pattern.period)
        return self._built(
            Recordings(self._record(0, layers), self._record(1, layers), longer, RECORDED_REPETITIONS, pattern.period)
        )

    def _literal_tape(self, layers: int) -> Tape:
        """Layers one after the other, none folded into a loop."""
        first, second = self._record(0, layers), self._record(1, layers)
        period = self._pattern.period
        return self._built(Recordings(first, second, first, layers // period, period))

    def _record(self, which: int, layers: int) -> Recording:
        if self._progress is not None:
            self._progress("recording a tape", self._runs, max(_USUAL_RUNS, self._runs + 1))
        self._runs += 1
        values = self._sets[which]
        update = {
            "batch_size": values["B"],
            "sequence_length": values["T"],
            "gradient_accumulation_steps": self._micro_batches,
        }
        job = self._job.model_copy(update=update)
        return record_training(
            job,
            config_at(self._config, values, layers),
            self._gpu,
            steps=_STEPS,
            runs_model=self._runs_model,
            keeps_empty_scratch=which != _CHECKED,
        )

    def _checked_values(self, layers: int) -> dict[str, int]:
        values = self._sets[_CHECKED]
        model = model_values(config_at(self._config, values, layers))
        return {**model, "B": values["B"], "T": values["T"], **gpu_values(self._gpu, torch.__version__)}

    def _built(self, recordings: Recordings) -> Tape:
        config, pattern = self._config, self._pattern
        letters = [symbol_values(config, values) for values in self._sets]
        symbols = Symbols(letters[0], letters[1], composite=composite_letters(config))
        layout = StepLayout(self._micro_batches)
        parts = TapeBuilder(recordings, symbols, layout).build()
        sections, program = arranged(with_operators(parts, layout), layout)
        return Tape(
            key={},
            versions=recordings.first.versions,
            sizes=tuple(parts.sizes),
            labels=tuple(parts.labels),
            sections=sections,
            program=program,
            guards=guards(config, self._sets[0]),
            attention=attention_guards(recordings.first, recordings.second, symbols),
            layers_per_repetition=pattern.period,
            layers_left_over=pattern.left_over,
            parameter_tensors=parts.parameter_tensors,
            kernels=_kernels(recordings),
            assumptions=general_assumptions(recordings),
        )


def without_unused(tape: Tape) -> Tape:
    """The same tape with only the sizes and labels that its rows use."""
    rows = [row for section in tape.sections for segment in section.segments for row in segment.rows]
    sizes = {old: new for new, old in enumerate(sorted({row.size for row in rows if isinstance(row, AllocRow)}))}
    labels = {old: new for new, old in enumerate(sorted({row.label for row in rows if isinstance(row, AllocRow)}))}

    def moved(row: Row) -> Row:
        return AllocRow(sizes[row.size], labels[row.label], row.layer) if isinstance(row, AllocRow) else row

    def segment(segment: Segment) -> Segment:
        return Segment(segment.repetitions, tuple(moved(row) for row in segment.rows))

    sections = tuple(
        replace(section, segments=tuple(segment(each) for each in section.segments)) for section in tape.sections
    )
    return replace(
        tape,
        sizes=tuple(tape.sizes[old] for old in sizes),
        labels=tuple(tape.labels[old] for old in labels),
        sections=sections,
    )


def with_operators(parts: TapeParts, layout: StepLayout) -> list[Section]:
    """The sections, each later step's with what it computes; the first step computes the same and is not asked."""
    later = parts.sections[1 + layout.length :]
    operators = parts.operators * (_STEPS - 1)
    return parts.sections[: 1 + layout.length] + [
        replace(section, operators=computed) for section, computed in zip(later, operators, strict=True)
    ]


def arranged(recorded: list[Section], layout: StepLayout) -> tuple[tuple[Section, ...], Program]:
    """Equal sections once, and the order they come in.

    Raises:
        RecordingError: the third step is not the second again, or the fourth micro batch not the third.
    """
    kept: list[Section] = []
    numbers: list[int] = []
    for section in recorded:
        if section not in kept:
            kept.append(section)
        numbers.append(kept.index(section))
    length = layout.length
    first, second, third = (tuple(numbers[1 + i * length : 1 + (i + 1) * length]) for i in range(_STEPS))
    if second != third:
        raise RecordingError("the third optimizer step is not like the second")
    if layout.micro_batches == 1:
        return tuple(kept), Program(numbers[0], first, second)
    for step in (first, second):
        if step[4:6] != step[6:8]:
            raise RecordingError("the fourth micro batch is not like the third")
    shortened = [step[:6] + step[8:] for step in (first, second)]
    return tuple(kept), Program(numbers[0], shortened[0], shortened[1], (4, 6))


def _kernels(recordings: Recordings) -> dict[str, tuple[int, int]]:
    """Calls of each kernel as (a, b): a + b x repetitions."""
    short, longer = recordings.first.kernels, recordings.longer.kernels
    slopes = {name: longer[name] - count for name, count in short.items()}
    return {name: (count - slopes[name] * recordings.repetitions, slopes[name]) for name, count in short.items()}


def general_assumptions(recordings: Recordings) -> tuple[str, ...]:
    """Sentences that hold at any size.

    Raises:
        RecordingError: the recordings assumed different things.
    """

    def general(recording: Recording) -> list[str]:
        plain = (_COUNTED.sub("", sentence) for sentence in recording.assumptions)
        return [sentence for sentence in plain if not sentence.startswith(_OF_SIZES)]

    first, second = general(recordings.first), general(recordings.second)
    if first != second:
        raise RecordingError(f"different things were assumed at different sizes: {first} and {second}")
    return tuple(first)
