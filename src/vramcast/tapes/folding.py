"""The peak of one model as the largest of few sums of batch size and sequence length.

Where the other dimensions are known, every size is a number of bytes times a product of batch size and sequence length (a monomial).
A size whose number is a multiple of a block needs no rounding, so all sizes of one monomial become one column of bytes; so do all
sizes that neither batch nor sequence changes. Only the few that are rounded stay apart. That leaves some dozens of sums, and a
grid of 10,000 cells takes a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from vramcast.tapes.binding import BLOCK, complete_values, size_values
from vramcast.tapes.expressions import Expression, atom_value
from vramcast.tapes.peak import LiveSets, necessary
from vramcast.tapes.tape import ScratchSize, Size
from vramcast.tapes.unrolling import Ints

VARIABLES = ("B", "T")
"""What a grid varies."""

Monomial = tuple[str, ...]
"""Atoms whose product it is."""


@dataclass(frozen=True, eq=False)
class FoldedSets:
    """The live sets of a job that can be the peak, whose batch size and sequence length are open."""

    values: Mapping[str, int]
    """Letter -> number of every other dimension."""
    monomials: tuple[Monomial, ...]
    rounded: tuple[Size, ...]
    """Sizes that have to be rounded up to a block."""
    weights: Ints
    """[sums, monomials + rounded]: bytes for each monomial, and how many tensors of each rounded size."""

    @cached_property
    def _rows(self) -> list[list[int]]:
        rows: list[list[int]] = self.weights.tolist()
        return rows

    def peak_bytes(self, batch_size: int, sequence_length: int) -> int:
        """Largest live sum, exact."""
        values = {**self.values, "B": batch_size, "T": sequence_length}
        columns = [_product(monomial, values) for monomial in self.monomials]
        columns += [-(-size // BLOCK) * BLOCK for size in size_values(self.rounded, values)]
        return max(sum(map(int.__mul__, row, columns)) for row in self._rows)

    def peaks_bytes(self, batch_sizes: Ints, sequence_lengths: Ints) -> Ints:
        """Largest live sum of every pair (batch_sizes[i], sequence_lengths[i]); exact below 2**53 bytes, which is 8 PiB."""
        values: dict[str, Any] = {**self.values, "B": batch_sizes, "T": sequence_lengths}
        real = {**self.values, "B": batch_sizes.astype(np.float64), "T": sequence_lengths.astype(np.float64)}
        table = np.empty((self.weights.shape[1], len(batch_sizes)))
        for column, monomial in enumerate(self.monomials):
            table[column] = _product(monomial, real)
        for column, size in enumerate(size_values(self.rounded, values), len(self.monomials)):
            table[column] = -(-size // BLOCK) * BLOCK
        peaks: Ints = (self.weights.astype(np.float64) @ table).max(axis=0).astype(np.int64)
        return peaks


def folded(sets: LiveSets, values: Mapping[str, int]) -> FoldedSets:
    """Live sets at these dimensions, batch size and sequence length left open; kept for the next time."""
    return _folded(sets, tuple(sorted((letter, value) for letter, value in values.items() if letter not in VARIABLES)))


@lru_cache(maxsize=64)
def _folded(sets: LiveSets, fixed: tuple[tuple[str, int], ...]) -> FoldedSets:
    values = complete_values(sets.tape, dict(fixed))
    monomials: dict[Monomial, Ints] = {(): np.zeros(len(sets.counts), dtype=np.int64)}
    rounded: dict[Size, Ints] = {}
    for size, count in zip(sets.sizes, sets.counts.T, strict=True):
        if isinstance(size, ScratchSize):
            known = _constant(size, values)
        else:
            factor, monomial = _split(size, values)
            known = None if monomial else factor
            size = Expression(factor, monomial)
        if known is not None:
            monomials[()] = monomials[()] + -(-known // BLOCK) * BLOCK * count
        elif isinstance(size, Expression) and size.coefficient % BLOCK == 0:
            monomials[size.atoms] = monomials.get(size.atoms, 0) + size.coefficient * count
        else:
            rounded[size] = rounded.get(size, 0) + count
    weights = np.stack([*monomials.values(), *rounded.values()], axis=1)
    return FoldedSets(values, tuple(monomials), tuple(rounded), weights[necessary(weights)])


def _split(size: Expression, values: Mapping[str, int]) -> tuple[int, Monomial]:
    """The number that is known, and the atoms that are not."""
    factor, open_atoms = size.coefficient, []
    for atom in size.atoms:
        if _is_open(atom):
            open_atoms.append(atom)
        else:
            factor *= atom_value(atom, values)
    return factor, tuple(open_atoms)


def _constant(size: ScratchSize, values: Mapping[str, int]) -> int | None:
    """The bytes of a scratch buffer that neither batch nor sequence changes."""
    atoms = [atom for _, expressions in size.arguments for expression in expressions for atom in expression.atoms]
    return None if any(map(_is_open, atoms)) else int(size_values((size,), values)[0])


def _is_open(atom: str) -> bool:
    # Other letters of an atom are small ones: `up32(T)`.
    return any(letter in atom for letter in VARIABLES)


def _product(monomial: Monomial, values: Mapping[str, Any]) -> Any:
    result: Any = 1
    for atom in monomial:
        result = result * atom_value(atom, values)
    return result
