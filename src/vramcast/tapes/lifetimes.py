"""Which row of a tape makes each allocation of a job, and which row ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vramcast.tapes.tape import AllocRow, OtherRow, Segment, Tape
from vramcast.tapes.unrolling import NO_LAYER, section_order, unroll


class RowPlace(NamedTuple):
    """One passing of a row."""

    occurrence: int
    """Place of its section in the job, loading = 0."""
    section: int
    segment: int
    row: int
    repetition: int
    """0 outside of a loop."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """From where to where an allocation lives."""

    birth: RowPlace
    death: RowPlace | None
    """None: alive at the end of the third optimizer step."""
    layer: int | None


def lifetimes(tape: Tape, layers: int, micro_batches: int = 1) -> list[Lifetime]:
    """Of every allocation, in the order in which `unroll` numbers them.

    Raises:
        TapeError: the tape does not hold for so many layers.
    """
    unrolled = unroll(tape, layers, micro_batches)
    births: list[RowPlace] = []
    deaths: dict[int, RowPlace] = {}
    for place, event in zip(_places(tape, layers, micro_batches), unrolled.event_list, strict=True):
        if event >= 0:
            births.append(place)
        else:
            deaths[~event] = place
    return [
        Lifetime(birth, deaths.get(number), None if layer == NO_LAYER else layer)
        for number, (birth, layer) in enumerate(zip(births, unrolled.layer.tolist(), strict=True))
    ]


def segment_count(tape: Tape, segment: Segment, layers: int) -> int:
    """How often a segment runs in a model of so many layers."""
    return 1 if segment.repetitions is None else tape.repetitions(layers) + segment.repetitions


def layer_of_row(tape: Tape, place: RowPlace, layers: int) -> int | None:
    """The layer in which a row is passed: that of the allocation next to it in its segment; None outside of any."""
    segment = tape.sections[place.section].segments[place.segment]
    before = (row for row in reversed(segment.rows[: place.row + 1]) if isinstance(row, AllocRow))
    after = (row for row in segment.rows[place.row :] if isinstance(row, AllocRow))
    nearest = next(before, None) or next(after, None)
    if nearest is None or nearest.layer is None:
        return None
    sign, from_end, offset = nearest.layer
    total = tape.repetitions(layers) if segment.repetitions is None else segment_count(tape, segment, layers)
    return tape.layers_per_repetition * (sign * place.repetition + from_end * (total - 1)) + offset


def _places(tape: Tape, layers: int, micro_batches: int) -> Iterator[RowPlace]:
    """Every allocation and death, in order."""
    order, _ = section_order(tape.program, micro_batches)
    for occurrence, number in enumerate(order):
        for position, segment in enumerate(tape.sections[number].segments):
            kept = [row for row, what in enumerate(segment.rows) if not isinstance(what, OtherRow)]
            for repetition in range(segment_count(tape, segment, layers)):
                for row in kept:
                    yield RowPlace(occurrence, number, position, row, repetition)
