"""The tables of a tape's file: rows as columns of small numbers, strings and expressions written once. See `format`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vramcast.tapes.expressions import Expression
from vramcast.tapes.tape import AllocRow, FreeRow, Label, OtherRow, Place, Row, Section, Segment, TapeOperator

_NO_PLACE = -1
_Thing = TypeVar("_Thing")


class _Numbers:
    """Gives each different thing a number, in order of first appearance."""

    def __init__(self) -> None:
        self.things: dict[Hashable, int] = {}

    def __call__(self, thing: Hashable) -> int:
        return self.things.setdefault(thing, len(self.things))


@dataclass
class WrittenTables:
    """Writes labels and sections, and collects what they point to."""

    strings: _Numbers = field(default_factory=_Numbers)
    expressions: _Numbers = field(default_factory=_Numbers)
    places: _Numbers = field(default_factory=_Numbers)

    def to_json(self) -> dict[str, Any]:
        """The tables; to be asked last."""
        expressions: Any = self.expressions.things
        return {
            "strings": list(self.strings.things),
            "expressions": [expression.to_json() for expression in expressions],
            "places": list(self.places.things),
        }

    def label(self, label: Label) -> list[Any]:
        """A label as numbers."""
        words = [self.strings(word) for word in (label.op, label.module, label.phase, label.category, label.dtype)]
        return [*words, self._expressions(label.shape), label.stream]

    def section(self, section: Section) -> dict[str, Any]:
        """A section as columns."""
        return {
            "mark": section.mark,
            "segments": [self._segment(segment) for segment in section.segments],
            "operators": [self._operator(operator) for operator in section.operators],
        }

    def _segment(self, segment: Segment) -> list[Any]:
        allocations = [row for row in segment.rows if isinstance(row, AllocRow)]
        deaths = [row for row in segment.rows if isinstance(row, FreeRow)]
        others = [row for row in segment.rows if isinstance(row, OtherRow)]
        return [
            segment.repetitions,
            "".join(_letter(row) for row in segment.rows),
            [
                [row.size for row in allocations],
                _differences(row.label for row in allocations),
                [_NO_PLACE if row.layer is None else self.places(row.layer) for row in allocations],
            ],
            [
                [self.strings(row.section) for row in deaths],
                _differences(row.segment for row in deaths),
                _differences(row.row for row in deaths),
                [self.places(row.repetition) for row in deaths],
            ],
            [[row.kind for row in others], [row.value for row in others]],
        ]

    def _operator(self, operator: TapeOperator) -> list[Any]:
        words = (operator.name, operator.kind, operator.phase, operator.module, operator.dtype)
        return [
            *(self.strings(word) for word in words),
            self._expressions(operator.extents),
            self.expressions(operator.flops),
            self._expressions(operator.reads),
            self._expressions(operator.writes),
            operator.calls,
        ]

    def _expressions(self, expressions: tuple[Expression, ...]) -> list[int]:
        return [self.expressions(expression) for expression in expressions]


class _Entries(tuple[_Thing, ...]):
    """A table of a file; a negative number names nothing in it."""

    __slots__ = ()

    def at(self, number: int) -> _Thing:
        """The entry with this number."""
        if number < 0:
            raise IndexError(f"entry {number} of a table")
        return self[number]


@dataclass
class ReadTables:
    """Reads what `WrittenTables` wrote. Anything out of order raises IndexError, TypeError or ValueError."""

    strings: _Entries[str]
    expressions: _Entries[Expression]
    places: _Entries[Place]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ReadTables:
        """The tables of a file."""
        return cls(
            _Entries(_text(text) for text in data["strings"]),
            _Entries(Expression.from_json(expression) for expression in data["expressions"]),
            _Entries(_place(*place) for place in data["places"]),
        )

    def label(
        self, op: int, module: int, phase: int, category: int, dtype: int, shape: list[int], stream: int
    ) -> Label:
        """Inverse of `WrittenTables.label`."""
        text = self.strings
        extents = tuple(self.expressions.at(extent) for extent in shape)
        kind: Any = text.at(category)
        return Label(text.at(op), text.at(module), text.at(phase), kind, text.at(dtype), extents, stream)

    def section(self, data: dict[str, Any]) -> Section:
        """Inverse of `WrittenTables.section`."""
        segments = tuple(self._segment(*segment) for segment in data["segments"])
        return Section(data["mark"], segments, tuple(self._operator(*operator) for operator in data["operators"]))

    def _segment(self, repetitions: int | None, kinds: str, allocations: Any, deaths: Any, others: Any) -> Segment:
        places = self.places
        sizes, labels, layers = allocations
        births = iter(
            [
                AllocRow(size, label, None if place == _NO_PLACE else places.at(place))
                for size, label, place in zip(sizes, _sums(labels), layers, strict=True)
            ]
        )
        sections, segments, rows, repetition = deaths
        ends = iter(
            [
                FreeRow(self.strings.at(section), segment, row, places.at(place))
                for section, segment, row, place in zip(sections, _sums(segments), _sums(rows), repetition, strict=True)
            ]
        )
        events = iter([OtherRow(kind, value) for kind, value in zip(*others, strict=True)])
        of_kind: dict[str, Any] = {"a": births, "f": ends, "e": events}
        if [kinds.count(letter) for letter in "afe"] != [len(sizes), len(sections), len(others[0])]:
            raise ValueError("columns of another length than their kinds")
        found = tuple(next(of_kind[letter]) for letter in kinds)
        return Segment(repetitions, found)

    def _operator(
        self,
        name: int,
        kind: int,
        phase: int,
        module: int,
        dtype: int,
        extents: list[int],
        flops: int,
        reads: list[int],
        writes: list[int],
        calls: list[int],
    ) -> TapeOperator:
        text, formula = self.strings, self.expressions
        return TapeOperator(
            text.at(name),
            text.at(kind),
            text.at(phase),
            text.at(module),
            text.at(dtype),
            tuple(formula.at(extent) for extent in extents),
            formula.at(flops),
            tuple(formula.at(size) for size in reads),
            tuple(formula.at(size) for size in writes),
            (calls[0], calls[1]),
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _place(sign: int, from_end: int, offset: int) -> Place:
    if sign not in (-1, 0, 1) or from_end not in (0, 1) or not isinstance(offset, int):
        raise ValueError(f"{(sign, from_end, offset)} is no place")
    return Place(sign, from_end, offset)


def _letter(row: Row) -> str:
    return "a" if isinstance(row, AllocRow) else "f" if isinstance(row, FreeRow) else "e"


def _differences(numbers: Iterable[int]) -> list[int]:
    found, before = [], 0
    for number in numbers:
        found.append(number - before)
        before = number
    return found


def _sums(differences: Sequence[int]) -> list[int]:
    found, total = [], 0
    for difference in differences:
        total += difference
        found.append(total)
    return found
