"""A tape as rows to read: what is allocated when, of which size, and where it dies; loops stay loops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vramcast.tapes.lifetimes import Lifetime, RowPlace, layer_of_row, lifetimes, segment_count
from vramcast.tapes.shown_order import Passed, passed_sections
from vramcast.tapes.size_text import size_text
from vramcast.tapes.tape import AllocRow, Label, OtherRow, Section, Segment, Tape
from vramcast.timeline import EventKind

Sign = Literal["+", "-", "."]
NEVER = "never"


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
    """Of deaths: rows that made what dies, `28, 30` of this section or `forward 26, same layer`; of another event its name."""


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
    """`load`, `first forward`, `later backward`."""
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
        return [self._section(number, self._passed[occurrence]) for number, occurrence in order]

    def _section(self, number: int, passed: Passed) -> ShownSection:
        section = self._tape.sections[number]
        blocks = tuple(
            ShownBlock(self._loop(number, position), tuple(self._rows(number, position)))
            for position, segment in enumerate(section.segments)
            if segment.rows and segment_count(self._tape, segment, self._layers)
        )
        return ShownSection(passed.name, section.mark, section, blocks)

    def _rows(self, section: int, position: int) -> Iterable[ShownRow]:
        segment = self._tape.sections[section].segments[position]
        freeing: list[tuple[int, str]] = []
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
                freeing.append((number, self._commonest(self._deaths[section, position, row], self._origin)))
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
            freed=self._commonest(self._births[place], self._fate),
        )

    def _commonest(self, found: list[Lifetime], describe: Describe) -> str:
        """What is true of most turns of a loop; the layers for which it is otherwise follow in brackets."""
        words = Counter(describe(lifetime) for lifetime in found)
        if not words:
            return NEVER
        usual = words.most_common(1)[0][0]
        others = [lifetime for lifetime in found if describe(lifetime) != usual]
        if not others:
            return usual
        said = ", ".join(f"layer {lifetime.layer}: {describe(lifetime)}" for lifetime in others[:2])
        return f"{usual} ({said})"

    def _fate(self, lifetime: Lifetime) -> str:
        if lifetime.death is None:
            return NEVER
        return self._words(lifetime.death, lifetime.birth, lifetime.layer, layer_of_row, "next")

    def _origin(self, lifetime: Lifetime) -> str:
        assert lifetime.death is not None
        layer = layer_of_row(self._tape, lifetime.death, self._layers)
        return self._words(lifetime.birth, lifetime.death, layer, lambda *_: lifetime.layer, "previous")

    def _words(
        self, place: RowPlace, seen_from: RowPlace, own_layer: int | None, layer_at: LayerAt, neighbour: str
    ) -> str:
        """`backward 34, same layer`, told from another row."""
        number = self._number(*place[1:4])
        there, here = self._passed[place.occurrence], self._passed[seen_from.occurrence]
        words = str(number)
        if place.occurrence != seen_from.occurrence:
            other_step = "" if there.step == here.step or not here.step else f"{neighbour} step's "
            words = f"{other_step}{there.word} {number}"
        layer = layer_at(self._tape, place, self._layers)
        if layer is None or own_layer is None:
            return words
        if layer == own_layer:
            return words if place[:3] == seen_from[:3] else f"{words}, same layer"
        if place.occurrence == seen_from.occurrence:
            return f"{words}, {neighbour} layer"
        return f"{words}, layer {'above' if layer > own_layer else 'below'}"

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
