"""At which batch sizes and sequence lengths of a grid a tape holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vramcast.tapes.binding import Capability, backend_at
from vramcast.tapes.expressions import Expression
from vramcast.tapes.tape import AttentionGuard, Tape

Bools = NDArray[np.bool_]
Condition = tuple[set[str], Callable[[Mapping[str, int]], bool]]
"""What it depends on of `B` and `T`, and whether it holds."""


def holds_on_grid(
    tape: Tape,
    values: Mapping[str, int],
    capability: Capability,
    batch_sizes: Sequence[int],
    sequence_lengths: Sequence[int],
) -> Bools:
    """Whether every condition on the sizes holds, as an array [batch sizes, sequence lengths].

    A condition is asked once for each value of what it depends on, not for each cell. Conditions on the number of layers are
    the same everywhere (`why_not` tells them).
    """
    holds = np.ones((len(batch_sizes), len(sequence_lengths)), dtype=np.bool_)
    for letters, condition in _conditions(tape, capability):
        rows = batch_sizes if "B" in letters else batch_sizes[:1]
        columns = sequence_lengths if "T" in letters else sequence_lengths[:1]
        holds &= np.array([[condition({**values, "B": row, "T": column}) for column in columns] for row in rows])
    return holds


def _conditions(tape: Tape, capability: Capability) -> Iterator[Condition]:
    for guard in tape.guards:
        yield _letters(guard.left, guard.right), guard.holds
    for attention in tape.attention:
        yield _letters(*(size for _, size in attention.sizes)), _takes(attention, capability)


def _takes(attention: AttentionGuard, capability: Capability) -> Callable[[Mapping[str, int]], bool]:
    return lambda values: backend_at(attention, values, capability) == attention.choice.backend


def _letters(*expressions: Expression) -> set[str]:
    # Other letters of an atom are small ones: `up32(T)`.
    return {letter for expression in expressions for atom in expression.atoms for letter in atom if letter in "BT"}
