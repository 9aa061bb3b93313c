"""From numbers to formulas: a size seen in recordings at known small dimensions is written as a product of them.

Each letter has a different prime (or a product of primes that no other letter shares) in each of two sets of dimensions. A
size that divides by a letter's value in both sets has that letter as a factor; what is left must be the same whole number in
both. Where it is not, the size holds a letter shifted by a little (labels padded to T+1, a table of P+2 positions) or
rounded up (buffers of a multiple of 16): these *derived atoms* are tried one, then two at a time. A size that even they
do not explain is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

from vramcast.tapes.expressions import Expression, atom_value, product

_SHIFTS = {
    "T": range(-2, 3),
    "S": range(-3, 4),
    "A": range(-2, 3),
    "P": (2,),
    "W": (-1, 1),
    "G": (1, 2),
    "H": (1, 2),
    "N": (-1, 1),
}
_MULTIPLES = (8, 16, 32, 64, 128)
_ROUNDED = "TSA"


class Unexplained(Exception):
    """A number that is no product of dimensions."""


class Symbols:
    """Solves pairs of numbers, one from each set of dimensions."""

    def __init__(self, first: Mapping[str, int], second: Mapping[str, int], *, composite: Sequence[str] = ()) -> None:
        """Prepare for two sets.

        Args:
            first: letter -> value in the first recording.
            second: the same letters in the second.
            composite: letters whose value is a product that contains other letters' values; tried first.
        """
        self._sets = (first, second)
        letters = [letter for letter in first if first[letter] > 1 and second[letter] > 1]
        self._atoms = [*composite, *self._simple([letter for letter in letters if letter not in composite])]
        self._derived = self._derived_atoms(letters)
        self._known: dict[tuple[int, int], Expression] = {}

    def solve(self, first: int, second: int) -> Expression:
        """The formula of a number seen as `first` and as `second`.

        Raises:
            Unexplained: there is none.
        """
        key = (first, second)
        if key not in self._known:
            self._known[key] = self._solve(first, second)
        return self._known[key]

    def solve_shape(self, first: Sequence[int], second: Sequence[int]) -> tuple[Expression, ...]:
        """A formula for each dimension of a shape; errors as for `solve`."""
        return tuple(self.solve(*pair) for pair in zip(first, second, strict=True))

    def values(self, atom: str) -> tuple[int, int]:
        """What an atom is worth in both sets."""
        return atom_value(atom, self._sets[0]), atom_value(atom, self._sets[1])

    def _simple(self, letters: Sequence[str]) -> list[str]:
        # A head dimension of 8 x prime is written D/8, so that parts of it (rotary halves and quarters) have a formula too.
        atoms = [f"{letter}/{divisor}" if (divisor := self._divisor(letter)) > 1 else letter for letter in letters]
        # Large ones first: a 2 or a 25 must not be taken out of a 26 or a 50.
        return sorted(atoms, key=lambda atom: min(self.values(atom)), reverse=True)

    def _divisor(self, letter: str) -> int:
        for divisor in (8, 4, 2):
            if letter in "DFM" and all(values[letter] % divisor == 0 for values in self._sets):
                return divisor
        return 1

    def _derived_atoms(self, letters: Sequence[str]) -> list[str]:
        shifted = [f"{letter}{shift:+d}" for letter in letters for shift in _SHIFTS.get(letter, ()) if shift]
        rounded = [
            f"up{multiple}({letter}{shift})"
            for letter in letters
            if letter in _ROUNDED
            for multiple in _MULTIPLES
            for shift in ("", *(f"{shift:+d}" for shift in _SHIFTS[letter] if shift))
        ]
        # Flash attention pads heads that are no multiple of 8.
        heads = ["up8(D)"] if "D" in letters and all(values["D"] % 8 for values in self._sets) else []
        return [atom for atom in shifted + rounded + heads if min(self.values(atom)) > 1]

    def _solve(self, first: int, second: int) -> Expression:
        plain = self._monomial(first, second)
        if plain is not None:
            return plain
        for count in (1, 2):
            found = [
                product([Expression(1, chosen), rest])
                for chosen in combinations_with_replacement(self._derived, count)
                if (rest := self._without(first, second, chosen)) is not None
            ]
            if found:
                # The smallest coefficient: a shift explains itself, a chance product leaves a large number behind.
                return min(found, key=lambda expression: (expression.coefficient, len(expression.atoms)))
        raise Unexplained(f"{first} at the first dimensions and {second} at the second")

    def _without(self, first: int, second: int, atoms: tuple[str, ...]) -> Expression | None:
        for atom in atoms:
            one, two = self.values(atom)
            if first % one or second % two:
                return None
            first, second = first // one, second // two
        return self._monomial(first, second)

    def _monomial(self, first: int, second: int) -> Expression | None:
        if first <= 0 or second <= 0:
            return Expression(0) if first == second == 0 else None
        found: list[str] = []
        for atom in self._atoms:
            one, two = self.values(atom)
            while first % one == 0 and second % two == 0:
                first, second = first // one, second // two
                found.append(atom)
        return Expression(first, tuple(sorted(found))) if first == second else None
