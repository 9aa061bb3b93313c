"""Sizes as formulas: a whole number times named dimensions, and the few functions of them that kernels round by.

An expression is `(coefficient, atoms)`: the product of a whole number and of atoms, one repeated for each power. An atom
is a dimension (`T`), a fraction of one (`D/8`), one shifted (`T+1`, a padded label; `G+2`, fused projections) or rounded
up (`up32(T)`, a padded buffer). `DIMENSIONS` says what each letter means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from vramcast.errors import VramcastError

DIMENSIONS = {
    "B": "batch size",
    "T": "sequence length",
    "S": "tokens in the key-value cache after this step",
    "A": "tokens in the key-value cache at the end",
    "N": "new tokens",
    "L": "layers",
    "E": "hidden size",
    "H": "attention heads (one key/value head each)",
    "K": "key/value heads",
    "G": "attention heads per key/value head",
    "D": "head dimension",
    "F": "feed-forward size",
    "V": "vocabulary",
    "P": "context length",
    "W": "sliding window",
    "X": "experts",
    "C": "experts per token",
    "U": "cuBLAS workspace, bytes",
    "m": "multiprocessors of the GPU",
    "n": "parameter tensors",
    "p": "parameters",
}
"""Letter -> meaning."""

_ATOM = re.compile(r"(?:up(?P<multiple>\d+)\()?(?P<name>[A-Za-z])(?:/(?P<divisor>\d+)|(?P<shift>[+-]\d+))?\)?")

Values = Mapping[str, Any]
"""Letter -> int, or a numpy array of int64 for a whole grid at once."""


class TapeError(VramcastError):
    """A tape that cannot be read or used; the message says which and why."""


class Expression(NamedTuple):
    """A product; `atoms` sorted, one entry for each power."""

    coefficient: int
    atoms: tuple[str, ...] = ()

    def value(self, values: Values) -> Any:
        """The number at the given dimensions.

        Raises:
            TapeError: a fraction of a dimension that it does not divide.
        """
        result: Any = self.coefficient
        for atom in self.atoms:
            result = result * atom_value(atom, values)
        return result

    def __str__(self) -> str:
        return text_of(self)

    def to_json(self) -> list[Any]:
        """`[coefficient, atom, ...]`."""
        return [self.coefficient, *self.atoms]

    @classmethod
    def from_json(cls, data: list[Any]) -> Expression:
        """Inverse of `to_json`.

        Raises:
            TapeError: not such a list.
        """
        if not data or isinstance(data[0], bool) or not isinstance(data[0], int):
            raise TapeError(f"{data!r} is no expression: write [whole number, atom, ...]")
        for atom in data[1:]:
            _parsed(atom)
        return cls(data[0], tuple(data[1:]))


def atom_value(atom: str, values: Values) -> Any:
    """The number one atom stands for."""
    multiple, name, divisor, shift = _parsed(atom)
    value = values[name]
    if divisor != 1:
        if _any(value % divisor):
            raise TapeError(f"{DIMENSIONS[name]} {value} is not a multiple of {divisor}")
        value = value // divisor
    value = value + shift
    return -(-value // multiple) * multiple if multiple > 1 else value


def product(expressions: Iterable[Expression]) -> Expression:
    """One expression for the product of several."""
    coefficient: int = 1
    atoms: list[str] = []
    for expression in expressions:
        coefficient *= expression.coefficient
        atoms += expression.atoms
    return Expression(coefficient, tuple(sorted(atoms)))


def text_of(expression: Expression) -> str:
    """`4·B·T²·H`: fractions of a dimension are taken into the coefficient where they leave a whole number."""
    coefficient, plain = expression.coefficient, []
    for atom in expression.atoms:
        multiple, name, divisor, _ = _parsed(atom)
        if multiple == 1 and divisor > 1 and coefficient % divisor == 0:
            coefficient //= divisor
            plain.append(name)
        else:
            plain.append(f"({atom})" if not atom.isalpha() and multiple == 1 else atom)
    parts = [str(coefficient)] if coefficient != 1 or not plain else []
    for atom in dict.fromkeys(plain):
        power = plain.count(atom)
        parts.append(atom if power == 1 else atom + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(power)))
    return "·".join(parts)


@cache
def _parsed(atom: str) -> tuple[int, str, int, int]:
    """(multiple it is rounded up to, dimension, divisor, shift)."""
    match = _ATOM.fullmatch(atom) if isinstance(atom, str) else None
    if match is None or match["name"] not in DIMENSIONS or atom.endswith(")") != (match["multiple"] is not None):
        raise TapeError(f"{atom!r} is no atom of an expression, such as T, D/8, T+1 or up32(T)")
    return int(match["multiple"] or 1), match["name"], int(match["divisor"] or 1), int(match["shift"] or 0)


def _any(condition: Any) -> bool:
    return bool(condition.any()) if hasattr(condition, "any") else bool(condition)
