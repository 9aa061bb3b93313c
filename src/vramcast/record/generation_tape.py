"""Records the tape of a generation job: prefill, five decode steps and the end, at small dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

from vramcast.errors import RecordingError
from vramcast.hardware import GPU
from vramcast.job import GenerationJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.record.building import DTYPES, ModelBuilder
from vramcast.record.decode_run import run_generation
from vramcast.record.operator_building import Recordings, TensorCounts, section_operators
from vramcast.record.regimes import (
    RECORDED_REPETITIONS,
    checking_values,
    composite_letters,
    config_at,
    guards,
    recording_values,
    symbol_values,
)
from vramcast.record.symbols import Symbols
from vramcast.record.tape_building import TapeBuilder, TapeParts, attention_guards
from vramcast.record.tape_recording import general_assumptions
from vramcast.tapes.binding import size_values
from vramcast.tapes.dimensions import gpu_values, model_values
from vramcast.tapes.expressions import Expression
from vramcast.tapes.generation import FEWEST_TOKENS, TEMPLATE_STEP, BoundGeneration
from vramcast.tapes.key import canonical, generation_key
from vramcast.tapes.structure import layer_pattern
from vramcast.tapes.tape import AllocRow, AttentionGuard, Guard, Program, Section, Tape, TapeOperator
from vramcast.timeline import EventKind, Recording, Timeline
from vramcast.timeline.decode import extended_timeline
from vramcast.virtual_cuda.versions import library_versions

RECORDED_TOKENS = 6
"""A prefill and five decode steps: two that meet what came before, one that is kept and two that must be like it."""
_PROMPTS = (98, 146, 64)
"""With the third decode step the cache holds a prime number of tokens, and at the end another; the last length is to check at."""
_STATIC_PROMPTS = {False: (109, 157, 64), True: (107, 139, 73)}
"""For a cache of fixed length, which is then not confused with the tokens in it: whether its length is a multiple of
`MASK_MULTIPLE` -> prompts."""
_CHECKED_TOKENS, _CHECKED_REPETITIONS = 24, 9
_LAST_STEP = RECORDED_TOKENS - 1
_PREFILL_SECTION = 1
MASK_MULTIPLE = 16
"""Memory-efficient attention copies a mask whose rows are no multiple of so many elements."""


class _Layout(NamedTuple):
    """How sections of a generation call each other: neighbours by distance, so that a step can be repeated."""

    def name_of(self, own: int, target: int) -> str:
        """How section `own` calls section `target`."""
        if own == target:
            return "own"
        if target == 0:
            return "load"
        if own - target <= 2:
            return f"back {own - target}"
        if target < TEMPLATE_STEP + _PREFILL_SECTION:
            return f"at {target}"
        raise RecordingError("something of a decode step dies much later")


class _Builder(TapeBuilder):
    """Builds each section with the letters it is written in: `T` in the prefill, `S` in a decode step."""

    symbols_of: list[Symbols]

    def build(self) -> TapeParts:
        """All sections, as rows."""
        short, longer = (self._streams[i].parameter_tensors for i in (0, 2))
        slope = longer - short
        self.parts.parameter_tensors = (short - slope * self._recordings.repetitions, slope)
        for number, section in enumerate(self._streams[0].sections):
            self._symbols = self.symbols_of[number]
            segments = tuple(self._segment(number, k, piece) for k, piece in enumerate(self._folded[number].pieces(0)))
            self.parts.sections.append(Section(section.mark, segments))
        return self.parts

    def counts(self) -> TensorCounts:
        """Of the three recordings."""
        return self._counts()

    def check_like_template(self, number: int, values: dict[str, int]) -> None:
        """Section `number` must be the template's section with other numbers put in.

        Raises:
            RecordingError: it is not.
        """
        template = _PREFILL_SECTION + TEMPLATE_STEP
        for i, (one, other) in enumerate(
            zip(self._streams[0].sections[template].tokens, self._streams[0].sections[number].tokens, strict=False)
        ):
            if (one.born, one.kind, one.value) != (other.born, other.kind, other.value):
                raise RecordingError(f"decode steps do not repeat: they differ at event {i}")
        mine, kept = self.parts.sections[number], self.parts.sections[template]
        known = {**values, "U": 1, "m": 1, "n": self._streams[0].parameter_tensors}
        sizes = size_values(tuple(self.parts.sizes), known)
        shapes = [tuple(extent.value(known) for extent in label.shape) for label in self.parts.labels]
        labels = list(self.parts.labels)
        if [segment.repetitions for segment in mine.segments] != [segment.repetitions for segment in kept.segments]:
            raise RecordingError("decode steps do not repeat: other loops")
        for segment, twin in zip(mine.segments, kept.segments, strict=True):
            for own, its in zip(segment.rows, twin.rows, strict=True):
                if not (isinstance(own, AllocRow) and isinstance(its, AllocRow)):
                    if own != its:
                        raise RecordingError(f"decode steps do not repeat: {own} and {its}")
                    continue
                same = sizes[own.size] == sizes[its.size] and shapes[own.label] == shapes[its.label]
                plain = labels[own.label]._replace(shape=()) == labels[its.label]._replace(shape=())
                if not (same and plain and own.layer == its.layer):
                    here, there = labels[own.label], labels[its.label]
                    raise RecordingError(
                        f"decode steps do not repeat: {here.op} in {here.module or here.phase}, then "
                        f"{there.op} in {there.module or there.phase}"
                    )


def record_generation_tape(
    job: GenerationJob, config: ModelConfig, gpu: GPU, *, progress: Progress | None = None
) -> Tape:
    """The tape of all generation jobs that take the same path as this one.

    Raises:
        RecordingError: what the job does cannot be made into a tape; the message says where.
        UnrepeatedLayers: the model's layers follow no pattern.
    """
    _check_regime(job, config)
    prompts = _prompts(job)
    sets = [{**values, "T": prompts[i]} for i, values in enumerate(recording_values(config, job.batch_size, 4))]
    checked = {**checking_values(config, job.batch_size, 4), "T": prompts[2]}
    pattern = layer_pattern(config)
    layers = RECORDED_REPETITIONS * pattern.period + pattern.left_over
    small = _bfloat_job(job)

    def record(which: int, layers: int, number: int) -> Recording:
        if progress is not None:
            progress("recording a tape", number, 3)
        return _recorded(small, config_at(config, sets[which], layers), sets[which], gpu)

    recordings = Recordings(
        record(0, layers, 0),
        record(1, layers, 1),
        record(0, layers + pattern.period, 2),
        RECORDED_REPETITIONS,
        pattern.period,
    )
    letters = [symbol_values(config, values) for values in sets]
    prefill = _symbols(letters, config, dict(enumerate(_ends(sets))))
    steps = [_symbols(_at_step(letters, sets, step), config, {}) for step in range(1, RECORDED_TOKENS)]
    tail = _symbols(_without_prompt(letters, sets), config, {})
    builder = _Builder(recordings, prefill, _Layout())  # type: ignore[arg-type]
    builder.symbols_of = [prefill, prefill, *steps, tail]
    parts = builder.build()
    for step in range(TEMPLATE_STEP + 1, RECORDED_TOKENS):
        values = {**sets[0], "S": sets[0]["T"] + step, "A": sets[0]["T"] + _LAST_STEP}
        builder.check_like_template(_PREFILL_SECTION + step, values)
    parts.operators = _operators(recordings, builder, [prefill, *steps])
    attention = _attention(recordings, prefill, steps[TEMPLATE_STEP - 1], sets)
    tape = _tape(job, config, recordings, parts, sets[0], attention)
    layers = _CHECKED_REPETITIONS * pattern.period + pattern.left_over
    return _checked(tape, small, config_at(config, checked, layers), checked, gpu)


def _checked(tape: Tape, job: GenerationJob, config: ModelConfig, sizes: dict[str, int], gpu: GPU) -> Tape:
    """The tape with the dimensions at which every step of a direct trace agreed.

    Raises:
        RecordingError: they do not agree.
    """
    update = {"batch_size": sizes["B"], "prompt_length": sizes["T"], "max_new_tokens": _CHECKED_TOKENS}
    job = job.model_copy(update=update)
    build = ModelBuilder(config, attention=job.attention, dtype=DTYPES[job.precision])
    traced = run_generation(job, build, gpu).timeline
    of_gpu = gpu_values(gpu, tape.versions["torch"])
    values = {
        **model_values(config),
        "B": job.batch_size,
        "T": job.prompt_length,
        "N": job.max_new_tokens,
        **of_gpu,
    }
    bound = BoundGeneration(tape, values).recording()
    assert bound.decode is not None
    replayed = extended_timeline(bound.timeline, bound.decode)
    for i, (one, other) in enumerate(zip_longest(_plain(replayed), _plain(traced))):
        if one != other:
            raise RecordingError(f"the tape and a direct trace differ at event {i}: {one} and {other}")
    return replace(tape, certified=({letter: value for letter, value in values.items() if letter not in of_gpu},))


def _plain(timeline: Timeline) -> Iterator[tuple[object, ...]]:
    """Every event but marks, with what its allocation is."""
    for kind, target, value in timeline.events:
        if kind in (EventKind.ALLOC, EventKind.FREE):
            allocation = timeline.allocations[target]
            yield (
                kind,
                target,
                allocation.nbytes,
                allocation.category,
                allocation.op,
                allocation.module,
                allocation.shape,
            )
        elif kind is not EventKind.MARK:
            yield (kind, value)


def _prompts(job: GenerationJob) -> tuple[int, int, int]:
    """Two prompts to record with, and one to check with."""
    if job.cache == "dynamic":
        return _PROMPTS
    return _STATIC_PROMPTS[(job.prompt_length + job.max_new_tokens - 1) % MASK_MULTIPLE == 0]


def _check_regime(job: GenerationJob, config: ModelConfig) -> None:
    window = config.dimensions.sliding_window
    if job.max_new_tokens < FEWEST_TOKENS:
        raise RecordingError(f"a generation of fewer than {FEWEST_TOKENS} tokens is run as it is")
    if job.prompt_length == 1:
        raise RecordingError("a prompt of one token is run as it is")
    if window is not None and job.prompt_length + job.max_new_tokens >= window:
        raise RecordingError("a generation that fills its sliding window changes on the way")


def _bfloat_job(job: GenerationJob) -> GenerationJob:
    if canonical({"precision": job.precision})[1] and job.kv_cache_dtype in (None, "fp16", "fp32"):
        cache = "bf16" if job.kv_cache_dtype == "fp16" else job.kv_cache_dtype
        return job.model_copy(update={"precision": "bf16", "kv_cache_dtype": cache})
    return job


def _recorded(job: GenerationJob, config: ModelConfig, values: dict[str, int], gpu: GPU) -> Recording:
    build = ModelBuilder(config, attention=job.attention, dtype=DTYPES[job.precision])
    update = {"batch_size": values["B"], "prompt_length": values["T"], "max_new_tokens": RECORDED_TOKENS}
    run = run_generation(job.model_copy(update=update), build, gpu, keeps_empty_scratch=True)
    run.timeline.mark("end")
    return Recording(
        timeline=run.timeline,
        parameters=run.parameters,
        flops_per_step=0,
        kernels=run.kernels,
        attention_choices=run.attention_choices,
        assumptions=[*run.assumptions, *build.notes],
        versions=library_versions(),
        section_operators=run.section_operators,
    )


def _ends(sets: list[dict[str, int]]) -> list[int]:
    return [values["T"] + _LAST_STEP for values in sets]


def _symbols(letters: list[dict[str, int]], config: ModelConfig, end: dict[int, int]) -> Symbols:
    one, two = ({**values, **({"A": end[i]} if i in end else {})} for i, values in enumerate(letters))
    return Symbols(one, two, composite=composite_letters(config))


def _at_step(letters: list[dict[str, int]], sets: list[dict[str, int]], step: int) -> list[dict[str, int]]:
    """Letters of a decode step: `S` for the prompt's length, and `A` where it is not the same number."""
    found = []
    for values, full in zip(_without_prompt(letters, sets), sets, strict=True):
        found.append({**values, "S": full["T"] + step})
    return found


def _without_prompt(letters: list[dict[str, int]], sets: list[dict[str, int]]) -> list[dict[str, int]]:
    return [
        {"A": full["T"] + _LAST_STEP, **{letter: value for letter, value in values.items() if letter != "T"}}
        for values, full in zip(letters, sets, strict=True)
    ]


def _operators(recordings: Recordings, builder: _Builder, symbols: list[Symbols]) -> list[tuple[TapeOperator, ...]]:
    """Of the prefill and each decode step, each with its own letters."""
    found: list[tuple[TapeOperator, ...]] = []
    for number, own in enumerate(symbols):
        one = replace(
            recordings,
            first=replace(recordings.first, section_operators=recordings.first.section_operators[number : number + 1]),
            second=replace(
                recordings.second, section_operators=recordings.second.section_operators[number : number + 1]
            ),
            longer=replace(
                recordings.longer, section_operators=recordings.longer.section_operators[number : number + 1]
            ),
        )
        found += section_operators(one, own, builder.counts())
    return found


def _attention(
    recordings: Recordings, prefill: Symbols, step: Symbols, sets: list[dict[str, int]]
) -> tuple[AttentionGuard, ...]:
    """Decisions of the prefill and of the decode step that is kept."""

    def of(recording: Recording, values: dict[str, int], is_prefill: bool) -> Recording:
        cached = (values["T"] + TEMPLATE_STEP, values["T"] + _LAST_STEP)
        choices = [
            choice
            for choice in recording.attention_choices
            if (choice.call.query_length > 1) == is_prefill and (is_prefill or choice.call.key_length in cached[:1])
        ]
        if not choices and not is_prefill:  # a static cache is always of its full length
            choices = [choice for choice in recording.attention_choices if choice.call.query_length == 1]
        return replace(recording, attention_choices=choices)

    pairs = [(of(recordings.first, sets[0], kind), of(recordings.second, sets[1], kind)) for kind in (True, False)]
    return (*attention_guards(*pairs[0], prefill), *attention_guards(*pairs[1], step))


def _mask_guards(attention: tuple[AttentionGuard, ...], values: dict[str, int]) -> tuple[Guard, ...]:
    """Rows of a mask are padded or not.

    Raises:
        RecordingError: it changes from step to step.
    """
    found: dict[Guard, None] = {}
    for guard in attention:
        if not (guard.choice.call.has_mask and guard.choice.backend == "efficient"):
            continue
        length = dict(guard.sizes)["key_length"]
        if any(atom.startswith("S") or "(S" in atom for atom in length.atoms):
            raise RecordingError("masks are padded in some decode steps and not in others")
        is_multiple = length.value(values) % MASK_MULTIPLE == 0
        kind = "multiple of" if is_multiple else "no multiple of"
        found[Guard(kind, length, Expression(MASK_MULTIPLE))] = None
    return tuple(found)


def _tape(
    job: GenerationJob,
    config: ModelConfig,
    recordings: Recordings,
    parts: TapeParts,
    values: dict[str, int],
    attention: tuple[AttentionGuard, ...],
) -> Tape:
    pattern = layer_pattern(config)
    known = {**values, "N": RECORDED_TOKENS, "A": values["T"] + _LAST_STEP, "S": values["T"] + TEMPLATE_STEP}
    several = Guard(">=", Expression(1, ("N",)), Expression(FEWEST_TOKENS))
    kept = tuple(guard for guard in guards(config, values) if "W" not in guard.right.atoms)
    if "W" in values:
        kept += (Guard("<", Expression(1, ("A+1",)), Expression(1, ("W",))),)
    sections = list(parts.sections)
    for number, operators in enumerate(parts.operators):
        sections[_PREFILL_SECTION + number] = replace(sections[_PREFILL_SECTION + number], operators=operators)
    template, last = _PREFILL_SECTION + TEMPLATE_STEP, len(sections) - 1
    arranged = (*sections[: template + 1], sections[last])
    short, longer = recordings.first.kernels, recordings.longer.kernels
    slopes = {name: longer[name] - count for name, count in short.items()}
    return Tape(
        key=canonical(generation_key(job, config))[0],
        versions=recordings.first.versions,
        sizes=tuple(parts.sizes),
        labels=tuple(parts.labels),
        sections=arranged,
        program=Program(0, tuple(range(1, template)), (template,), None, template + 1),
        guards=(*kept, several, *_mask_guards(attention, known)),
        attention=attention,
        layers_per_repetition=pattern.period,
        layers_left_over=pattern.left_over,
        parameter_tensors=parts.parameter_tensors,
        kernels={name: (count - slopes[name] * recordings.repetitions, slopes[name]) for name, count in short.items()},
        assumptions=general_assumptions(recordings),
    )
