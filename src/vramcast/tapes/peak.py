"""The peak as the largest of a few short sums.

What is alive after an event is a count for each size of the tape. The peak is the largest `counts x sizes`. Sizes are never
negative, so a live set that another one exceeds in every count can never be the peak, whatever the dimensions, and neither can
one that lies between two others: only the rest is kept. A grid of batch sizes and sequence lengths is then one matrix
product, and a person can read the sums.

The sums are of live tensors, each rounded up to a block of 512 bytes. That is never more than the allocated peak, which counts a
block of the caching allocator as it was handed out: up to 1 MiB more where one was too small to split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vramcast.tapes.binding import BLOCK, complete_values, size_values
from vramcast.tapes.tape import Size, Tape
from vramcast.tapes.unrolling import STEPS, Ints, UnrolledTape, unroll

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LiveSets:
    """The live sets of a job that can be the peak, at any batch size and sequence length."""

    tape: Tape
    layers: int
    used: tuple[int, ...]
    """Sizes of the tape that occur, as indices into `Tape.sizes`."""
    counts: Ints
    """[live sets, used]: how many tensors of each size are alive."""
    positions: Ints
    """Event after which each is alive."""

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes that occur."""
        return tuple(self.tape.sizes[index] for index in self.used)

    def block_bytes(self, values: Mapping[str, Any]) -> list[Any]:
        """Bytes of each used size, rounded up to a block: ints, or arrays where the values are arrays."""
        known = complete_values(self.tape, values)
        return [-(-size // BLOCK) * BLOCK for size in size_values(self.sizes, known)]

    def peak_bytes(self, values: Mapping[str, Any]) -> Any:
        """Largest live sum: an int, or an array of int64 where the values are arrays that broadcast.

        Sums below 2**53 bytes, which is 8 PiB, are exact.
        """
        blocks = np.broadcast_arrays(*(np.asarray(size, dtype=np.float64) for size in self.block_bytes(values)))
        table = np.stack(blocks).reshape(len(self.used), -1)
        peaks = (self.counts.astype(np.float64) @ table).max(axis=0).astype(np.int64)
        return int(peaks[0]) if blocks[0].ndim == 0 else peaks.reshape(blocks[0].shape)

    def winner(self, values: Mapping[str, int]) -> int:
        """Number of the live set that is the peak at these dimensions."""
        return int((self.counts @ np.array(self.block_bytes(values), dtype=np.int64)).argmax())


@dataclass(frozen=True)
class _Key:
    tape: Tape
    layers: int
    micro_batches: int

    def __hash__(self) -> int:
        return hash((id(self.tape), self.layers, self.micro_batches))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key) or other.tape is not self.tape:
            return False
        return (self.layers, self.micro_batches) == (other.layers, other.micro_batches)


def live_sets(tape: Tape, layers: int, micro_batches: int = 1) -> LiveSets:
    """The live sets of a job that can be the peak; kept for the next time."""
    # From the third micro batch on, all are alike.
    return _live_sets(_Key(tape, layers, min(micro_batches, 3)))


@lru_cache(maxsize=64)
def _live_sets(key: _Key) -> LiveSets:
    unrolled = unroll(key.tape, key.layers, key.micro_batches)
    which, sign = unrolled.changes()
    end = _until_repetition(unrolled)
    which, sign = which[:end], sign[:end]
    used, column = np.unique(which, return_inverse=True)
    tops = np.flatnonzero((sign[:-1] > 0) & (sign[1:] < 0))
    tops = np.append(tops, len(sign) - 1)
    counts = np.empty((len(tops), len(used)), dtype=np.int64)
    for number in range(len(used)):
        counts[:, number] = np.cumsum(np.where(column == number, sign, 0))[tops]
    kept = necessary(counts)
    return LiveSets(key.tape, key.layers, tuple(used.tolist()), counts[kept], tops[kept])


def _until_repetition(unrolled: UnrolledTape) -> int:
    """Events before the last step, which repeats the one before."""
    ends = [position for position, name in unrolled.marks if name == "after_step"]
    return ends[-2] if len(ends) == STEPS else len(unrolled.events)


def necessary(table: Ints) -> Ints:
    """Numbers of rows of which one is the largest `row x column values` at any values that are not negative; in order."""
    kept = _undominated(table)
    return kept[_without_middles(table[kept])]


def _undominated(counts: Ints) -> Ints:
    """Numbers of the rows that no other row equals or exceeds in every column, in order."""
    _, first = np.unique(counts, axis=0, return_index=True)
    order = first[np.argsort(-counts[first].sum(axis=1), kind="stable")]
    kept: list[int] = []
    table = np.empty_like(counts)
    for row in order.tolist():
        if not (table[: len(kept)] >= counts[row]).all(axis=1).any():
            table[len(kept)] = counts[row]
            kept.append(row)
    return np.array(sorted(kept), dtype=np.int64)


def _without_middles(table: Ints) -> Ints:
    """Numbers of the rows that do not lie below the middle of an earlier row and a later one.

    As the layers of a model go by, one size is freed and another is made, so that only the first or the last layer can be the
    peak. All middles can go at once: the first of the largest rows is none, for one of the two would be larger or as large
    and earlier.
    """
    rows, last = np.arange(len(table)), len(table) - 1
    reach = np.minimum(rows, last - rows)
    kept = [
        row
        for row, far in zip(rows.tolist(), reach.tolist(), strict=True)
        if not (2 * table[row] <= table[row - far : row][::-1] + table[row + 1 : row + far + 1]).all(axis=1).any()
    ]
    return np.array(kept, dtype=np.int64)
