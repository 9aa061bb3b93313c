"""The peak as a formula: the largest of a few short sums, which of them wins here, and which win at other sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from vramcast.explain.live_sum import Instant, LiveSetReader, LiveSum
from vramcast.tapes.binding import BoundTape, Capability, why_not
from vramcast.tapes.expressions import DIMENSIONS
from vramcast.tapes.peak import LiveSets, live_sets

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
SHORTEST_SEQUENCE = 128
MOST_WINNERS = 3
"""Sums that are written out; what wins in between is one of their neighbours."""


class Letter(BaseModel):
    """A letter of the formulas."""

    model_config = _FROZEN

    letter: str
    meaning: str
    value: int


class Winner(BaseModel):
    """A sum that is the peak somewhere."""

    model_config = _FROZEN

    sum: LiveSum
    """At `batch_size` and `sequence_length`."""
    batch_size: int
    sequence_length: int
    cells: int
    """Of the map, where this sum, or the same of another layer, is the peak."""


class PeakFormula(BaseModel):
    """Peak = max of sums, each of everything alive at one instant."""

    model_config = _FROZEN

    sums: int
    """So many live sets can be the peak at some batch size and sequence length: no other exceeds them in every term."""
    here: LiveSum
    unused_bytes: int
    """Allocated peak less `here`: the ends of blocks that were too small to split."""
    letters: tuple[Letter, ...]
    winners: tuple[Winner, ...]
    """The one here first, then those that win in most cells of the map."""
    batch_sizes: tuple[int, ...]
    sequence_lengths: tuple[int, ...]
    map: tuple[tuple[int | None, ...], ...]
    """[batch sizes, sequence lengths]: number of the winner, `len(winners)` where it is another one; None where this tape does
    not hold, as batch size 1 takes another path through the code."""


def peak_formula(bound: BoundTape, capability: Capability, allocated_bytes: int, context_length: int) -> PeakFormula:
    """The formula of a job's allocated peak.

    Args:
        bound: its tape with the job's numbers.
        capability: compute capability of the GPU, which decides about attention.
        allocated_bytes: the allocated peak.
        context_length: longest sequence of the map.
    """
    sets = live_sets(bound.tape, bound.values["L"], bound.micro_batches)
    reader = LiveSetReader(sets, bound.micro_batches)
    here = sets.winner(bound.values)
    batch_sizes = sorted({*BATCH_SIZES, bound.values["B"]})
    lengths = _lengths(bound.values["T"], context_length)
    cells = _winners(bound, sets, capability, batch_sizes, lengths)
    ranked, numbered = _ranked(reader, here, cells)
    total = reader.read(here, bound.values)
    return PeakFormula(
        sums=len(sets.positions),
        here=total,
        unused_bytes=allocated_bytes - total.bytes,
        letters=_letters(reader, here, bound),
        winners=tuple(
            _winner(reader, bound, {cell: number for cell, number in cells.items() if numbered.get(number) == rank})
            for rank in range(len(ranked))
        ),
        batch_sizes=tuple(batch_sizes),
        sequence_lengths=tuple(lengths),
        map=tuple(
            tuple(None if (cell := cells.get((B, T))) is None else numbered.get(cell, len(ranked)) for T in lengths)
            for B in batch_sizes
        ),
    )


Cells = dict[tuple[int, int], int]
"""(batch size, sequence length) -> number of the live set that is the peak."""


def _lengths(asked: int, context_length: int) -> list[int]:
    lengths, length = {asked, context_length}, min(SHORTEST_SEQUENCE, context_length)
    while length < context_length:
        lengths.add(length)
        length *= 2
    return sorted(lengths)


def _winners(
    bound: BoundTape, sets: LiveSets, capability: Capability, batch_sizes: Iterable[int], lengths: Iterable[int]
) -> Cells:
    cells: Cells = {}
    for batch_size in batch_sizes:
        for length in lengths:
            values = {**bound.values, "B": batch_size, "T": length}
            if why_not(bound.tape, values, capability) is None:
                cells[batch_size, length] = sets.winner(values)
    return cells


def _ranked(reader: LiveSetReader, here: int, cells: Cells) -> tuple[list[Instant], dict[int, int]]:
    """The instants that win, that of the job first, and the rank of each live set that belongs to one of them."""
    instants = {number: reader.instant(number) for number in {here, *cells.values()}}
    won = Counter(instants[number] for number in cells.values())
    others = sorted((each for each in won if each != instants[here]), key=lambda each: (-won[each], each))
    ranked = [instants[here], *others][:MOST_WINNERS]
    return ranked, {number: ranked.index(each) for number, each in instants.items() if each in ranked}


def _winner(reader: LiveSetReader, bound: BoundTape, cells: Cells) -> Winner:
    """A winner, written out at the job's own sizes where it wins there, else in the middle of where it does."""
    own = (bound.values["B"], bound.values["T"])
    batch_size, length = own if own in cells else sorted(cells)[len(cells) // 2]
    values = {**bound.values, "B": batch_size, "T": length}
    return Winner(
        sum=reader.read(cells[batch_size, length], values),
        batch_size=batch_size,
        sequence_length=length,
        cells=len(cells),
    )


def _letters(reader: LiveSetReader, number: int, bound: BoundTape) -> tuple[Letter, ...]:
    used = {"L", *reader.letters(number)}
    return tuple(
        Letter(letter=letter, meaning=meaning, value=bound.values[letter])
        for letter, meaning in DIMENSIONS.items()
        if letter in used and letter in bound.values
    )
