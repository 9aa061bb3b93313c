"""Layers folded into loops: two recordings, one with one more repetition of the layer pattern, tell what repeats.

A run of equal pieces is a layer loop if there are about as many pieces as layers and the longer recording has exactly one
more of them at that place. Nothing is taken on trust: the folded section, unfolded with one more repetition, must be
the longer recording, token by token, or there is no tape.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vramcast.errors import RecordingError

_MISSING, _EXTRA = 3, 1
"""A loop may lack the first and last layers, which often differ, and may take in a piece beside the layers."""

Ids = NDArray[np.int64]


@dataclass(slots=True)
class Piece:
    """Consecutive tokens of one section: `repetitions` equal pieces of `width` tokens, or plain ones."""

    is_loop: bool
    start: int
    width: int
    repetitions: int = 1

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + self.width * self.repetitions


@dataclass(slots=True)
class Folded:
    """The loops of one section, in the coordinates of the shorter recording."""

    loops: list[Piece]
    length: int

    def pieces(self, more: int) -> list[Piece]:
        """Every piece in order, in the coordinates of a recording with `more` repetitions than the shorter one."""
        found: list[Piece] = []
        position = shift = 0
        for loop in self.loops:
            if loop.start > position:
                found.append(Piece(False, position + shift, loop.start - position))
            found.append(Piece(True, loop.start + shift, loop.width, loop.repetitions + more))
            shift += more * loop.width
            position = loop.end
        if position < self.length:
            found.append(Piece(False, position + shift, self.length - position))
        return found


def fold(short: Ids, long: Ids, repetitions: int, name: str) -> Folded:
    """The layer loops of a section.

    Args:
        short: token numbers of the section in a recording with `repetitions` of the layer pattern.
        long: the same with one repetition more.
        repetitions: see above.
        name: what to call the section in an error.

    Raises:
        RecordingError: the longer section does not follow from the shorter.
    """
    chosen = _without_overlap(_candidates(short, long, repetitions))
    folded = Folded(_aligned(chosen, short, long), len(short))
    expected = _unfolded(folded, short)
    if len(expected) != len(long) or (expected != long).any():
        shorter = min(len(expected), len(long))
        differing = np.flatnonzero(expected[:shorter] != long[:shorter])
        at = int(differing[0]) if len(differing) else shorter
        raise RecordingError(f"{name}: layers do not repeat; first difference at event {at} of {len(long)}")
    return folded


def _candidates(short: Ids, long: Ids, repetitions: int) -> list[tuple[int, int, int]]:
    """(length, start, width) of runs in `short` that come back in `long` one piece longer."""
    fewest, most = max(repetitions - _MISSING, 2), repetitions + _EXTRA
    longer: dict[tuple[int, int, bytes], bool] = defaultdict(bool)
    for start, length, width in _runs(long, fewest + 1, most + 1):
        longer[width, length, long[start : start + width].tobytes()] = True
    return [
        (length, start, width)
        for start, length, width in _runs(short, fewest, most)
        if longer[width, length + width, short[start : start + width].tobytes()]
    ]


def _runs(ids: Ids, fewest: int, most: int) -> list[tuple[int, int, int]]:
    """(start, length, width) of every maximal run with a period of `width` that is repeated so often."""
    found: list[tuple[int, int, int]] = []
    for width in range(1, len(ids) // fewest + 1):
        same = (ids[:-width] == ids[width:]).astype(np.int8)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same, [0]))))
        starts, lengths = edges[::2], edges[1::2] - edges[::2] + width
        count = lengths // width
        for i in np.flatnonzero((count >= fewest) & (count <= most)):
            found.append((int(starts[i]), int(lengths[i]), width))
    return found


def _without_overlap(candidates: list[tuple[int, int, int]]) -> list[Piece]:
    """The longest runs, of the shortest period, that do not touch."""
    taken: set[int] = set()
    chosen: list[Piece] = []
    for length, start, width in sorted(candidates, key=lambda run: (-run[0], run[2])):
        piece = Piece(True, start, width, length // width)
        covered = range(piece.start, piece.end)
        if taken.isdisjoint(covered):
            taken.update(covered)
            chosen.append(piece)
    return sorted(chosen, key=lambda piece: piece.start)


def _aligned(chosen: list[Piece], short: Ids, long: Ids) -> list[Piece]:
    """Those runs that are a piece longer in the other recording at that very place."""
    good: list[Piece] = []
    here = there = 0
    for number, loop in enumerate(chosen):
        gap = loop.start - here
        if not np.array_equal(short[here : loop.start], long[there : there + gap]):
            break
        here, there = loop.start, there + gap
        following = chosen[number + 1].start if number + 1 < len(chosen) else len(short)
        tail = short[loop.end : min(following, loop.end + 60)]
        grown = (loop.repetitions + 1) * loop.width
        piece = short[loop.start : loop.start + loop.width]
        repeats = np.array_equal(long[there : there + grown], np.tile(piece, loop.repetitions + 1))
        if repeats and np.array_equal(long[there + grown : there + grown + len(tail)], tail):
            good.append(loop)
            here, there = loop.end, there + grown
    return good


def _unfolded(folded: Folded, short: Ids) -> Ids:
    """The section with one repetition more."""
    parts: list[Ids] = []
    position = 0
    for loop in folded.loops:
        parts += [
            short[position : loop.start],
            np.tile(short[loop.start : loop.start + loop.width], loop.repetitions + 1),
        ]
        position = loop.end
    return np.concatenate([*parts, short[position:]])
