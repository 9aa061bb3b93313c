"""A tape as rows to read: what is allocated when, of which size, and where it dies; loops stay loops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

from vramcast.tapes.lifetimes import Lifetime, RowPlace, layer_of_row, lifetimes, segment_count
from vramcast.tapes.shown_order import passed_sections, section_name
from vramcast.tapes.size_text import size_text
from vramcast.tapes.tape import AllocRow, Label, OtherRow, Section, Segment, Tape
from vramcast.timeline import EventKind

Sign = Literal["+", "-", "."]
NEVER = "never"
MOST_EXCEPTIONS = 2


@dataclass(frozen=True, slots=True)
class ShownRow:
    """An allocation (`+`), deaths one after the other (`-`), or another event (`.`)."""

    number: int
    """Of the row in its section, from 1."""
    sign: Sign
    size: str = ""
    dtype: str = ""
    shape: str = ""
    op: str = ""
    module: str = ""
    category: str = ""
    freed: str = ""
    """Of an allocation: where it dies, `backward 34, same layer`; the number is that of the row."""
    freeing: str = ""
    """Of deaths: rows that made what dies, `row 28, 30` of this section or `forward 26, same layer`; of another event its name."""


@dataclass(frozen=True, slots=True)
class ShownBlock:
    """Rows that run once, or once in each turn of a loop."""

    loop: str
    """`for each of L - 1 layers, 11 to 1`; empty for rows that run once."""
    rows: tuple[ShownRow, ...]


@dataclass(frozen=True, slots=True)
class ShownSection:
    """What happens between two marks."""

    name: str
    """`load`; `first forward` of the first step, `later forward` of the others, `forward` where those are alike."""
    mark: str
    """The mark that ends it."""
    section: Section
    blocks: tuple[ShownBlock, ...]


def shown_sections(tape: Tape, layers: int, micro_batches: int = 1) -> list[ShownSection]:
    """Every section that differs, in the order of a job: loading, the first optimizer step, a later one.

    Args:
        tape: of a training job, its optimizer included.
        layers: of the model; decides nothing but the numbers of layers that are named.
        micro_batches: gradient accumulation steps.
    """
    return _Shower(tape, layers, micro_batches).sections()


class Told(NamedTuple):
    """A row as another one calls it: `backward 34, same layer`."""

    where: str
    """Its section, `row` where that is the same, or `never`, which has no row."""
    row: int
    relation: str

    def __str__(self) -> str:
        return f"{self.where} {self.row}{self.relation}" if self.row else self.where


class _Shower:
    def __init__(self, tape: Tape, layers: int, micro_batches: int) -> None:
        self._tape, self._layers = tape, layers
        self._passed = passed_sections(tape, micro_batches)
        self._lifetimes = lifetimes(tape, layers, micro_batches)
        first: dict[int, int] = {}
        for occurrence, passed in enumerate(self._passed):
            first.setdefault(passed.section, occurrence)
        self._shown = first
        """Section -> the occurrence that is shown: its first, whose allocations all die before the job ends."""
        self._births: dict[tuple[int, int, int], list[Lifetime]] = defaultdict(list)
        self._deaths: dict[tuple[int, int, int], list[Lifetime]] = defaultdict(list)
        for lifetime in self._lifetimes:
            if self._is_shown(lifetime.birth):
                self._births[lifetime.birth[1:4]].append(lifetime)
            if lifetime.death is not None and self._is_shown(lifetime.death):
                self._deaths[lifetime.death[1:4]].append(lifetime)

    def sections(self) -> list[ShownSection]:
        order = sorted(self._shown.items(), key=lambda item: item[1])
        return [self._section(number) for number, _ in order]

    def _section(self, number: int) -> ShownSection:
        section = self._tape.sections[number]
        blocks = tuple(
            ShownBlock(self._loop(number, position), tuple(self._rows(number, position)))
            for position, segment in enumerate(section.segments)
            if segment.rows and segment_count(self._tape, segment, self._layers)
        )
        name = section_name(passed for passed in self._passed if passed.section == number)
        return ShownSection(name, section.mark, section, blocks)

    def _rows(self, section: int, position: int) -> Iterable[ShownRow]:
        segment = self._tape.sections[section].segments[position]
        freeing: list[tuple[int, Told]] = []
        for row, what in enumerate(segment.rows):
            number = self._number(section, position, row)
            if isinstance(what, AllocRow | OtherRow):
                yield from _deaths_row(freeing)
                freeing = []
                yield (
                    self._allocation(what, number, (section, position, row))
                    if isinstance(what, AllocRow)
                    else ShownRow(number, ".", freeing=EventKind(what.kind).name.lower().replace("_", " "))
                )
            else:
                origins = Counter(map(self._origin, self._deaths[section, position, row]))
                freeing += [(number, origin) for origin, _ in origins.most_common(1)]
        yield from _deaths_row(freeing)

    def _allocation(self, row: AllocRow, number: int, place: tuple[int, int, int]) -> ShownRow:
        label = self._tape.labels[row.label]
        return ShownRow(
            number,
            "+",
            size=size_text(self._tape.sizes[row.size]),
            dtype=label.dtype,
            shape=_shape(label),
            op=label.op,
            module=label.module,
            category=label.category,
            freed=self._fates(self._births[place]),
        )

    def _fates(self, found: list[Lifetime]) -> str:
        """Where most turns of a loop end it; where it is otherwise for some layers, that follows in brackets.

        A turn before or after the loop has rows of its own with the same layout: another number there is no other fate.
        """
        fates = [(lifetime.layer, self._fate(lifetime)) for lifetime in found]
        usual = Counter(fate for _, fate in fates).most_common(1)[0][0]
        others = [
            f"layer {layer}: {fate}"
            for layer, fate in fates
            if (fate.where, fate.relation) != (usual.where, usual.relation) and layer is not None
        ]
        return f"{usual} ({'; '.join(others[:MOST_EXCEPTIONS])})" if others else str(usual)

    def _fate(self, lifetime: Lifetime) -> Told:
        if lifetime.death is None:
            return Told(NEVER, 0, "")
        death_layer = layer_of_row(self._tape, lifetime.death, self._layers)
        return self._told(lifetime.death, death_layer, lifetime.birth, lifetime.layer, "next")

    def _origin(self, lifetime: Lifetime) -> Told:
        assert lifetime.death is not None
        death_layer = layer_of_row(self._tape, lifetime.death, self._layers)
        return self._told(lifetime.birth, lifetime.layer, lifetime.death, death_layer, "previous")

    def _told(self, place: RowPlace, layer: int | None, seen: RowPlace, seen_layer: int | None, near: str) -> Told:
        """A row and its layer as they are called from another row, `seen`, and its layer."""
        there, here = self._passed[place.occurrence], self._passed[seen.occurrence]
        where = "row" if place.occurrence == seen.occurrence else there.word
        if here.step and there.step != here.step:
            where = f"{near} step's {where}"
        return Told(where, self._number(*place[1:4]), _relation(place, layer, seen, seen_layer, near))

    def _loop(self, section: int, position: int) -> str:
        segment = self._tape.sections[section].segments[position]
        if segment.repetitions is None:
            return ""
        last = segment_count(self._tape, segment, self._layers) - 1
        ends = [self._layer_of_segment(section, position, repetition) for repetition in (0, last)]
        text = f"for each of {_repetitions(self._tape, segment)}"
        return text if None in ends else f"{text}, {ends[0]} to {ends[1]}"

    def _layer_of_segment(self, section: int, position: int, repetition: int) -> int | None:
        rows = self._tape.sections[section].segments[position].rows
        layers = (
            layer_of_row(self._tape, RowPlace(0, section, position, row, repetition), self._layers)
            for row in range(len(rows))
        )
        return next((layer for layer in layers if layer is not None), None)

    def _number(self, section: int, segment: int, row: int) -> int:
        before = self._tape.sections[section].segments[:segment]
        return sum(len(each.rows) for each in before) + row + 1

    def _is_shown(self, place: RowPlace) -> bool:
        return self._shown[place.section] == place.occurrence


def _relation(place: RowPlace, layer: int | None, seen: RowPlace, seen_layer: int | None, near: str) -> str:
    if layer is None or seen_layer is None:
        return ""
    if layer == seen_layer:
        # Within one turn of a loop it goes without saying.
        return "" if place[:3] == seen[:3] and place.repetition == seen.repetition else ", same layer"
    if place.occurrence == seen.occurrence:
        return f", {near} layer"
    return f", layer {'above' if layer > seen_layer else 'below'}"


def _deaths_row(deaths: Sequence[tuple[int, Told]]) -> Iterator[ShownRow]:
    """Deaths one after the other as one row; those of one section and relation are named together."""
    if deaths:
        together = groupby((told for _, told in deaths), key=lambda told: (told.where, told.relation))
        said = [
            f"{where} {', '.join(str(told.row) for told in group)}{relation}" for (where, relation), group in together
        ]
        yield ShownRow(deaths[0][0], "-", freeing="; ".join(said))


def _shape(label: Label) -> str:
    return f"[{', '.join(str(extent) for extent in label.shape)}]"


def _repetitions(tape: Tape, segment: Segment) -> str:
    """`L - 1 layers`; where layers of several kinds take turns, `L/2 groups of 2 layers`."""
    assert segment.repetitions is not None
    one, rest = tape.layers_per_repetition, tape.layers_left_over
    number = "L" if one == 1 else f"{f'(L - {rest})' if rest else 'L'}/{one}"
    if segment.repetitions:
        number = f"{number} {'+' if segment.repetitions > 0 else '-'} {abs(segment.repetitions)}"
    return f"{number} layers" if one == 1 else f"{number} groups of {one} layers"
