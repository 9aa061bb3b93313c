"""A tape laid out for a number of layers and micro batches: every event of the recorded steps, sizes still as formulas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vramcast.tapes.expressions import TapeError
from vramcast.tapes.tape import AllocRow, FreeRow, OtherRow, Program, Section, Segment, Tape

STEPS = 3
"""Optimizer steps a training tape stands for: the first, and two that are alike."""
NO_LAYER = -1

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UnrolledTape:
    """All sections in order, as one list of events."""

    size: Ints
    """Of each allocation: index into `Tape.sizes`."""
    label: Ints
    """Of each allocation: index into `Tape.labels`."""
    layer: Ints
    """Of each allocation: its layer, or `NO_LAYER`."""
    events: Ints
    """i: allocation i is made; ~i: it is freed."""
    marks: tuple[tuple[int, str], ...]
    """(number of events before it, name)."""
    others: tuple[tuple[int, OtherRow], ...]
    """(number of events before it, event)."""
    between: tuple[tuple[int, str | OtherRow], ...]
    """Names of marks and other events, in the order they come in, each with the number of events before it."""
    first_allocations: tuple[int, ...]
    """Of each section: number of allocations before it."""

    @cached_property
    def event_list(self) -> list[int]:
        """`events` as plain ints."""
        events: list[int] = self.events.tolist()
        return events

    def changes(self) -> tuple[Ints, Ints]:
        """(index into `Tape.sizes`, +1 or -1) of every event."""
        born = self.events >= 0
        return self.size[np.where(born, self.events, ~self.events)], np.where(born, 1, -1)


def unroll(tape: Tape, layers: int, micro_batches: int = 1) -> UnrolledTape:
    """Every event of a job.

    Raises:
        TapeError: the tape does not hold for so many layers.
    """
    if layers < tape.min_layers or (tape.max_layers is not None and layers > tape.max_layers):
        raise TapeError(f"this tape holds for {tape.min_layers} layers and more, not for {layers}")
    if (layers - tape.layers_left_over) % tape.layers_per_repetition:
        raise TapeError(f"{layers} layers are not a whole number of patterns of {tape.layers_per_repetition}")
    return _joined(_Identity(tape), tape.repetitions(layers), micro_batches)


class _Identity:
    """A tape as a key of the cache: by identity, for comparing its rows would cost more than unrolling them."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def __hash__(self) -> int:
        return id(self.tape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.tape is self.tape


@lru_cache(maxsize=64)
def _joined(identity: _Identity, repetitions: int, micro_batches: int) -> UnrolledTape:
    order, step_starts = section_order(identity.tape.program, micro_batches)
    return joined(identity.tape, order, step_starts, repetitions)


def joined(tape: Tape, order: list[int], step_starts: list[int], repetitions: int) -> UnrolledTape:
    """The sections of these numbers one after the other, each for so many repetitions of the layer pattern."""
    unrolled = {number: _unroll_section(tape, tape.sections[number], repetitions) for number in set(order)}
    parts = [unrolled[number] for number in order]
    bases = np.cumsum([0, *(len(part.size) for part in parts)])
    between: list[tuple[int, str | OtherRow]] = []
    position = 0
    for part in parts:
        between += [(position + before, row) for before, row in part.others]
        position += len(part.events)
        between.append((position, part.mark))
    return UnrolledTape(
        np.concatenate([part.size for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.layer for part in parts]),
        np.concatenate([_events_of(own, parts, bases, step_starts) for own in range(len(parts))]),
        tuple((before, what) for before, what in between if isinstance(what, str)),
        tuple((before, what) for before, what in between if not isinstance(what, str)),
        tuple(between),
        tuple(bases[:-1].tolist()),
    )


def section_order(program: Program, micro_batches: int) -> tuple[list[int], list[int]]:
    """Numbers of all sections in order, and for each the place at which its optimizer step starts."""
    order, starts = [program.load], [0]
    for step in (program.first, *[program.steady] * (STEPS - 1)):
        sections = _with_micro_batches(step, program, micro_batches)
        starts += [len(order)] * len(sections)
        order += sections
    return order, starts


def steady_sections(program: Program, micro_batches: int) -> list[int]:
    """Numbers of the sections of one optimizer step after the first."""
    return _with_micro_batches(program.steady, program, micro_batches)


def _with_micro_batches(step: tuple[int, ...], program: Program, micro_batches: int) -> list[int]:
    sections = list(step)
    if program.repeated is not None:
        begin, end = program.repeated
        sections[begin:end] = sections[begin:end] * (micro_batches - 2)
    return sections


class _Deaths(NamedTuple):
    """Rules of the deaths of one section that mean the same section; see `FreeRow`."""

    section: str
    which: Ints
    """Number of the death in its section."""
    segment: Ints
    row: Ints
    repetition: Ints
    """sign x own repetition + offset"""
    from_end: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _UnrolledSection:
    mark: str
    size: Ints
    label: Ints
    layer: Ints
    events: Ints
    """i: allocation i of the section is made; -1 - k: death k."""
    deaths: tuple[_Deaths, ...]
    allocation_at: Ints
    """Position of a row -> allocation, -1 where the row makes none."""
    starts: Ints
    """Position at which each segment starts."""
    widths: Ints
    counts: Ints
    others: tuple[tuple[int, OtherRow], ...]


def _events_of(own: int, parts: list[_UnrolledSection], bases: Ints, step_starts: list[int]) -> Ints:
    part = parts[own]
    dying = np.empty(sum(len(deaths.which) for deaths in part.deaths), dtype=np.int64)
    for deaths in part.deaths:
        number = _section_called(deaths.section, own, step_starts)
        if not 0 <= number <= own:
            raise TapeError(f"{part.mark} frees something of a section that is not there: {deaths.section}")
        dying[deaths.which] = bases[number] + _named(deaths, parts[number], part.mark)
    events: Ints = part.events + bases[own]
    freed = part.events < 0
    events[freed] = ~dying[-1 - part.events[freed]]
    return events


def _named(deaths: _Deaths, target: _UnrolledSection, mark: str) -> Ints:
    """The allocations of a section that die."""
    if deaths.segment.max(initial=0) >= len(target.starts):
        raise TapeError(f"{mark} frees something of a segment that is not there")
    repetition = deaths.repetition + deaths.from_end * (target.counts[deaths.segment] - 1)
    position = target.starts[deaths.segment] + target.widths[deaths.segment] * repetition + deaths.row
    if position.min(initial=0) < 0 or position.max(initial=0) >= len(target.allocation_at):
        raise TapeError(f"{mark} frees something of a row that is not there")
    allocations: Ints = target.allocation_at[position]
    if allocations.min(initial=0) < 0:
        raise TapeError(f"{mark} frees something of a row that makes nothing")
    return allocations


def _section_called(name: str, own: int, step_starts: list[int]) -> int:
    word, _, number = name.partition(" ")
    match word:
        case "own":
            return own
        case "back":
            return own - int(number)
        case "load":
            return 0
        case "at":
            return int(number)
        case "start":
            return step_starts[own] + int(number)
        case _:
            return step_starts[step_starts[own] - 1] + int(number)


_ALLOCATION, _DEATH, _OTHER = 0, 1, 2


def _unroll_section(tape: Tape, section: Section, repetitions: int) -> _UnrolledSection:
    counts = [1 if segment.repetitions is None else repetitions + segment.repetitions for segment in section.segments]
    if min(counts, default=0) < 0:
        raise TapeError(f"this tape does not hold for so few layers: {section.mark} needs more")
    tables = [_table(segment) for segment in section.segments]
    rows = np.concatenate(
        [np.tile(table, (count, 1)) for table, count in zip(tables, counts, strict=True)] or [_NO_ROWS]
    )
    own = np.concatenate(
        [np.repeat(np.arange(n), len(table)) for table, n in zip(tables, counts, strict=True)] or [_NO_ROWS[:, 0]]
    )
    total = np.concatenate(
        [
            np.full(n * len(table), repetitions if segment.repetitions is None else n)
            for segment, table, n in zip(section.segments, tables, counts, strict=True)
        ]
        or [_NO_ROWS[:, 0]]
    )
    born, dead = rows[:, 0] == _ALLOCATION, rows[:, 0] == _DEATH
    events: Ints = np.where(born, np.cumsum(born) - 1, -np.cumsum(dead))
    widths = np.array([len(table) for table in tables], dtype=np.int64)
    kept = born | dead
    made = rows[born]
    return _UnrolledSection(
        section.mark,
        made[:, 1],
        made[:, 2],
        _layers(tape, made, own[born], total[born]),
        events[kept],
        _deaths(section, rows[dead], own[dead]),
        np.where(born, events, -1),
        np.cumsum([0, *(widths * np.array(counts, dtype=np.int64))])[:-1],
        widths,
        np.array(counts, dtype=np.int64),
        tuple(
            (int(kept[:position].sum()), OtherRow(int(rows[position, 1]), int(rows[position, 2])))
            for position in np.flatnonzero(rows[:, 0] == _OTHER)
        ),
    )


_NO_ROWS = np.empty((0, 7), dtype=np.int64)


def _table(segment: Segment) -> Ints:
    """Rows as numbers: kind, then size, label, has a layer, sign, from_end, offset; or segment, row, 0, sign, from_end, offset."""
    table = np.zeros((len(segment.rows), 7), dtype=np.int64)
    for i, row in enumerate(segment.rows):
        if isinstance(row, AllocRow):
            table[i] = (_ALLOCATION, row.size, row.label, row.layer is not None, *(row.layer or (0, 0, 0)))
        elif isinstance(row, FreeRow):
            table[i] = (_DEATH, row.segment, row.row, _section_number(row.section), *row.repetition)
        else:
            table[i] = (_OTHER, row.kind, row.value, 0, 0, 0, 0)
    return table


_SECTION_NAMES: list[str] = []


def _section_number(name: str) -> int:
    if name not in _SECTION_NAMES:
        _SECTION_NAMES.append(name)
    return _SECTION_NAMES.index(name)


def _layers(tape: Tape, made: Ints, own: Ints, total: Ints) -> Ints:
    layers: Ints = tape.layers_per_repetition * (made[:, 4] * own + made[:, 5] * (total - 1)) + made[:, 6]
    layers[made[:, 3] == 0] = NO_LAYER
    return layers


def _deaths(section: Section, rows: Ints, own: Ints) -> tuple[_Deaths, ...]:
    found = []
    for number in sorted(set(rows[:, 3].tolist())):
        which = np.flatnonzero(rows[:, 3] == number)
        one = rows[which]
        found.append(
            _Deaths(
                _SECTION_NAMES[int(number)], which, one[:, 1], one[:, 2], one[:, 4] * own[which] + one[:, 6], one[:, 5]
            )
        )
    return tuple(found)
