"""Which allocation a death in a folded section means, as a rule that holds for every number of layers.

A death in repetition j of a loop means a row of some section in repetition `sign x j + from_end x (n - 1) + offset` of n: forward
and backward walk the layers in opposite directions. The rule must hold for every repetition in both recordings. Where
the first or last repetitions do not follow it, they are taken out of the loop and become plain rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vramcast.errors import RecordingError
from vramcast.record.rolling import Folded, Piece
from vramcast.record.tokens import TokenStream
from vramcast.tapes.tape import FreeRow, Place

_FORWARD_AND_BACKWARD = ((1, 0), (1, 1), (-1, 0), (-1, 1))
"""(sign, from_end): from the first or from the last layer, in the same direction or in the other."""
_MOST_ROUNDS = 60

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepLayout:
    """How the sections of an optimizer step follow each other."""

    micro_batches: int
    others: int = 2
    """Sections after the micro batches: the optimizer's step and zero_grad."""

    @property
    def length(self) -> int:
        """Sections of a step."""
        return 2 * self.micro_batches + self.others

    def name_of(self, own: int, target: int) -> str:
        """How section `own` calls section `target`: the same whatever the number of micro batches.

        Raises:
            RecordingError: a micro batch in the middle of a step is meant from outside.
        """
        if own == target:
            return "own"
        if target == 0:
            return "load"
        own_step, own_index = divmod(own - 1, self.length)
        step, index = divmod(target - 1, self.length)
        if self.micro_batches > 1 and index < 2 and (step != own_step or own_index >= 4):
            if own_step - step > 1:
                raise RecordingError("something outlives two optimizer steps and then dies")
            return f"{'start' if step == own_step else 'previous'} {index}"
        if self.micro_batches > 1 and own - target > 2 + self.others + 1:
            raise RecordingError("something of a micro batch in the middle of a step dies much later")
        return f"back {own - target}"


class _Guess(NamedTuple):
    """Where the allocation that dies may be."""

    section: int
    piece: int
    row: int
    place: Place


class _Peel(NamedTuple):
    """An end of a loop that follows no rule."""

    section: int
    piece: int
    side: str


@dataclass(slots=True)
class _Coordinates:
    """Pieces of one section in one recording."""

    pieces: list[Piece]
    starts: Positions

    @classmethod
    def of(cls, folded: Folded, more: int) -> _Coordinates:
        pieces = folded.pieces(more)
        return cls(pieces, np.array([piece.start for piece in pieces], dtype=np.int64))

    def piece_at(self, position: int) -> int:
        return int(np.searchsorted(self.starts, position, "right")) - 1


class References:
    """Finds the rule of every death; takes ends out of loops until all have one."""

    def __init__(self, short: TokenStream, long: TokenStream, folded: Sequence[Folded], layout: StepLayout) -> None:
        self._streams = (short, long)
        self._folded = folded
        self._layout = layout
        self.rules: dict[tuple[int, int, int], FreeRow] = {}
        """(section, piece, row) -> rule."""

    def resolve(self) -> None:
        """Fill `rules`.

        Raises:
            RecordingError: a death follows no rule.
        """
        for _ in range(_MOST_ROUNDS):
            self._coordinates = [[_Coordinates.of(folded, more) for folded in self._folded] for more in (0, 1)]
            self.rules = {}
            peels = {peel for section in range(len(self._folded)) for peel in self._resolve_section(section)}
            if not peels:
                return
            self._take_out(peels)
        raise RecordingError("the ends of the layer loops do not settle")

    def _resolve_section(self, section: int) -> set[_Peel]:
        peels: set[_Peel] = set()
        for number, piece in enumerate(self._coordinates[0][section].pieces):
            tokens = self._streams[0].sections[section].tokens
            for row in range(piece.width):
                token = tokens[piece.start + row]
                if token.allocation >= 0 and not token.born:
                    peels |= self._resolve_row(section, number, row)
        return peels

    def _resolve_row(self, section: int, number: int, row: int) -> set[_Peel]:
        targets = [self._targets(which, section, number, row) for which in (0, 1)]
        piece = self._coordinates[0][section].pieces[number]
        best: tuple[int, list[Positions]] | None = None
        for guess in self._guesses(targets, section, number):
            wrong = [self._mismatches(which, targets[which], guess) for which in (0, 1)]
            count = len(wrong[0]) + len(wrong[1])
            if count == 0:
                name = self._layout.name_of(section, guess.section)
                self.rules[section, number, row] = FreeRow(name, guess.piece, guess.row, guess.place)
                return set()
            if best is None or count < best[0]:
                best = (count, wrong)
        assert best is not None
        if not piece.is_loop:
            target_section, position = targets[0][0]
            k = self._coordinates[0][int(target_section)].piece_at(int(position))
            return {_Peel(int(target_section), k, "both")}
        return self._ends(section, number, best[1])

    def _targets(self, which: int, section: int, number: int, row: int) -> Positions:
        """(section, position) of the allocation that dies, for every repetition."""
        stream = self._streams[which]
        piece = self._coordinates[which][section].pieces[number]
        tokens = stream.sections[section].tokens
        dying = (tokens[piece.start + row + i * piece.width].allocation for i in range(piece.repetitions))
        return np.array([stream.birthplace[index] for index in dying], dtype=np.int64)

    def _guesses(self, targets: list[Positions], section: int, number: int) -> Iterator[_Guess]:
        """Rules that hold for one repetition; the longer recording shows some whose targets lie before a short loop."""
        seen = set()
        for which in (0, 1):
            piece = self._coordinates[which][section].pieces[number]
            for own in dict.fromkeys((piece.repetitions // 2, piece.repetitions - 1, 0)):
                target_section, position = targets[which][own].tolist()
                pieces = self._coordinates[which][target_section]
                k = pieces.piece_at(position)
                target = pieces.pieces[k]
                repetition, row = divmod(position - target.start, target.width)
                for sign, from_end in _FORWARD_AND_BACKWARD if piece.is_loop else _FORWARD_AND_BACKWARD[:2]:
                    offset = repetition - sign * own - from_end * (target.repetitions - 1)
                    guess = _Guess(target_section, k, row, Place(sign, from_end, offset))
                    if guess not in seen:
                        seen.add(guess)
                        yield guess

    def _mismatches(self, which: int, targets: Positions, guess: _Guess) -> Positions:
        target = self._coordinates[which][guess.section].pieces[guess.piece]
        repetition = guess.place.at(np.arange(len(targets)), target.repetitions)
        expected = target.start + target.width * repetition + guess.row
        return np.flatnonzero((targets[:, 1] != expected) | (targets[:, 0] != guess.section))

    def _ends(self, section: int, number: int, wrong: list[Positions]) -> set[_Peel]:
        peels = set()
        for which in (0, 1):
            middle = (self._coordinates[which][section].pieces[number].repetitions - 1) / 2
            if (wrong[which] < middle).any():
                peels.add(_Peel(section, number, "front"))
            if (wrong[which] >= middle).any():
                peels.add(_Peel(section, number, "back"))
        return peels

    def _take_out(self, peels: set[_Peel]) -> None:
        """Shorten the loops; pieces are counted with the plain ones, loops alone are stored."""
        sides: dict[tuple[int, int], set[str]] = defaultdict(set)
        for section, number, side in peels:
            sides[section, number] |= {"front", "back"} if side == "both" else {side}
        for (section, number), ends in sides.items():
            pieces = self._coordinates[0][section].pieces
            if not pieces[number].is_loop:
                raise RecordingError("the end of a tensor's life follows no rule")
            loop = self._folded[section].loops[sum(piece.is_loop for piece in pieces[:number])]
            if loop.repetitions < 2 + len(ends):
                raise RecordingError("the layers of this model live too differently to be folded")
            if "front" in ends:
                loop.start += loop.width
            loop.repetitions -= len(ends)
