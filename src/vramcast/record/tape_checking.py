"""A recorded tape is checked before it is used: bound to round dimensions that it was not recorded at, it must be the trace.

The dimensions are on the same side of every threshold as those of the question. A model with more layers than were recorded is
run, and then ever larger ones from one repetition of the layer pattern on, to find how few the loops hold for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from vramcast.errors import RecordingError
from vramcast.tapes.binding import BoundTape, complete_values, table_at, why_not
from vramcast.tapes.expressions import TapeError
from vramcast.tapes.tape import Program, Tape
from vramcast.tapes.unrolling import STEPS, section_order
from vramcast.timeline import Allocation, EventKind, OperatorTable, Recording, Timeline

CHECKED_REPETITIONS = 8
"""Of the layer pattern, in the check with more layers than were recorded."""

Capability = tuple[int, int]


class TapeChecker:
    """Compares a tape with traces at one set of dimensions."""

    def __init__(
        self,
        record: Callable[[int], Recording],
        values: Callable[[int], dict[str, int]],
        capability: Capability,
        micro_batches: int,
        marks: Collection[str] | None = None,
    ) -> None:
        """Prepare.

        Args:
            record: layers -> the trace.
            values: layers -> the dimensions of that trace.
            capability: compute capability of the GPU it is traced on.
            micro_batches: of each optimizer step of the trace.
            marks: only the sections that end with these; all if not given.
        """
        self._record, self._values = record, values
        self._capability, self._micro_batches, self._marks = capability, micro_batches, marks
        self._recordings: dict[int, Recording] = {}

    def checked(self, tape: Tape, recorded_repetitions: int) -> Tape:
        """The tape with `min_layers` and `certified` set.

        Raises:
            RecordingError: it differs from the trace at any number of layers.
        """
        self._require(tape, self._layers(tape, CHECKED_REPETITIONS))
        fewest = self._layers(tape, self._fewest_repetitions(tape, recorded_repetitions))
        self._require(tape, fewest)
        certified = tuple(self._certified(layers) for layers in sorted(self._recordings) if layers >= fewest)
        return replace(tape, min_layers=fewest, certified=certified)

    def _fewest_repetitions(self, tape: Tape, recorded_repetitions: int) -> int:
        """Where the tape holds for two counts in a row, it holds for those between them and the recorded one."""
        for repetitions in range(1, recorded_repetitions):
            if self._agrees(tape, self._layers(tape, repetitions)) and self._agrees(
                tape, self._layers(tape, repetitions + 1)
            ):
                return repetitions
        return recorded_repetitions

    def checked_literally(self, tape: Tape, layers: int) -> Tape:
        """A tape without loops, for this number of layers alone; errors as for `checked`."""
        self._require(tape, layers)
        return replace(tape, min_layers=layers, max_layers=layers, certified=(self._certified(layers),))

    def _certified(self, layers: int) -> dict[str, int]:
        """The dimensions of a trace; the multiprocessors, by which no path is chosen, are none."""
        return {letter: value for letter, value in self._values(layers).items() if letter != "m"}

    def _layers(self, tape: Tape, repetitions: int) -> int:
        return repetitions * tape.layers_per_repetition + tape.layers_left_over

    def _agrees(self, tape: Tape, layers: int) -> bool:
        return self._first_difference(tape, layers) is None

    def _require(self, tape: Tape, layers: int) -> None:
        difference = self._first_difference(tape, layers)
        if difference is not None:
            raise RecordingError(f"the tape is not the trace at {_text(self._values(layers))}: {difference}")

    def _first_difference(self, tape: Tape, layers: int) -> str | None:
        values = self._values(layers)
        reason = why_not(tape, values, self._capability)
        if reason is not None:
            return reason
        bound = BoundTape(tape, values, self._micro_batches)
        try:
            timeline = bound.timeline()
        except TapeError as error:
            return str(error)
        if layers not in self._recordings:
            self._recordings[layers] = self._record(layers)
        return next(self._differences(bound, timeline, self._recordings[layers]), None)

    def _differences(self, bound: BoundTape, timeline: Timeline, recording: Recording) -> Iterator[str]:
        sections, traced = _sections(timeline), _sections(recording.timeline)
        if [mark for mark, _ in sections] != [mark for mark, _ in traced]:
            yield "other marks"
        for (mark, own), (_, true) in zip(sections, traced, strict=True):
            if not self._is_wanted(mark):
                continue
            for position, (one, two) in enumerate(zip(own, true, strict=False)):
                if one != two:
                    yield f"{mark}, event {position}: {one}, traced {two}"
            if len(own) != len(true):
                yield f"{mark}: {len(own)} events, traced {len(true)}"
        if self._marks is None and bound.kernels() != recording.kernels:
            yield f"kernels {bound.kernels()}, traced {recording.kernels}"
        yield from self._operator_differences(bound, recording)

    def _operator_differences(self, bound: BoundTape, recording: Recording) -> Iterator[str]:
        numbers = last_step(bound.tape.program, self._micro_batches)
        values = {**complete_values(bound.tape, bound.values), "p": bound.parameters}
        repetitions = bound.tape.repetitions(bound.values["L"])
        for number, traced in zip(numbers, recording.section_operators, strict=True):
            section = bound.tape.sections[number]
            if self._is_wanted(section.mark):
                one, two = counted(table_at(section, values, repetitions)), counted(traced)
                for operator in (one - two) | (two - one):
                    yield f"{section.mark}, {operator}: {one[operator]} calls, traced {two[operator]}"

    def _is_wanted(self, mark: str) -> bool:
        return self._marks is None or mark in self._marks


def last_step(program: Program, micro_batches: int) -> list[int]:
    """Numbers of the sections of the last optimizer step."""
    order, _ = section_order(program, micro_batches)
    return order[-((len(order) - 1) // STEPS) :]


def counted(table: OperatorTable) -> Counter[tuple[Any, ...]]:
    """Calls of equal operators, whichever layer asks for them."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for each in table:
        kind = (each.name, each.kind, each.phase, each.dtype, each.extents, each.flops, each.reads, each.writes)
        counts[kind] += each.calls
    return counts


def facts(allocation: Allocation) -> tuple[Any, ...]:
    """Everything an allocation says but the rule of a scratch buffer, which a tape has as a size."""
    return (
        allocation.nbytes,
        allocation.stream,
        allocation.category,
        allocation.phase,
        allocation.module,
        allocation.op,
        allocation.dtype,
        allocation.shape,
    )


def _sections(timeline: Timeline) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """(mark, events) of each section; an allocation is named by its section and its number in it."""
    found: list[tuple[str, list[tuple[Any, ...]]]] = []
    events: list[tuple[Any, ...]] = []
    names: dict[int, tuple[int, int]] = {}
    born = 0
    for kind, target, value in timeline.events:
        if kind == EventKind.MARK:
            found.append((timeline.marks[target], events))
            events, born = [], 0
        elif kind == EventKind.ALLOC:
            names[target] = (len(found), born)
            events.append(facts(timeline.allocations[target]))
            born += 1
        elif kind == EventKind.FREE:
            events.append(names[target])
        else:
            events.append((kind, value))
    return found


def _text(values: dict[str, int]) -> str:
    return ", ".join(f"{letter} = {value}" for letter, value in values.items())
