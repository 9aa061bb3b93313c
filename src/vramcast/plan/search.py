"""Finds the size at which a job stops running on a card, in few replays."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vramcast.plan.known_peaks import KnownPeaks

Cell = tuple[int, int]
"""(batch size, length)."""


class Line(NamedTuple):
    """Jobs that differ in one size only."""

    varies: Literal["batch_size", "length"]
    fixed: int
    """The other size."""
    shortest: int = 1
    """Smaller sizes are asked for as this one."""

    def cell(self, size: int) -> Cell:
        """What to ask for."""
        size = max(size, self.shortest)
        return (size, self.fixed) if self.varies == "batch_size" else (self.fixed, size)

    def size(self, cell: Cell) -> int | None:
        """The varying size of `cell`; None if it is not on this line."""
        size, other = cell if self.varies == "batch_size" else cell[::-1]
        return size if other == self.fixed else None


@dataclass
class Search:
    """Narrows a bracket `runs < fails` until the two are neighbours.

    `runs` is 0 or a size whose replay completed; `fails` is a size whose replay did not, or the one after the limit. Where the next
    replay goes is a guess: live bytes are cheap at any size, and reserved over live changes slowly from one size to the next, so the
    ratio at the replays made so far (for whatever card) tells about where memory ends. A guess decides how long the search takes, never
    what it finds: the steps away from either end double, so a useless one costs about twice the logarithm of the limit.
    """

    known: KnownPeaks
    line: Line
    capacity_bytes: int
    limit: int
    runs: int = 0
    fails: int = field(init=False)
    _successes: int = 0
    _failures: int = 0

    def __post_init__(self) -> None:
        self.fails = self.limit + 1

    def find(self) -> int:
        """A size that runs while the next one does not; 0 where size 1 does not; the limit where that runs."""
        while self.fails - self.runs > 1:
            self._try(self._next())
        return self.runs

    def _try(self, size: int) -> None:
        cell = self.line.cell(size)
        if self.known.runs(*cell, self.capacity_bytes):
            self.runs, self._successes = size, self._successes + 1
            return
        self.fails, self._failures = size, self._failures + 1
        if self.fails - self.runs > 1 and self.known.live_bytes(*cell) <= self.capacity_bytes and self._unknown(size):
            self.known.peaks(*cell)  # the guess was too high: what is reserved here corrects the next one

    def _unknown(self, size: int) -> bool:
        """Is there no replay without a limit on this line within half of this size?"""
        return all(2 * abs(other - size) > size for other, _ in self._samples())

    def _next(self) -> int:
        lowest = self.runs + _step(self._successes)
        highest = self.fails - _step(self._failures)
        if lowest >= highest:
            return (self.runs + self.fails) // 2
        return min(max(self._guess(), lowest), highest)

    def _guess(self) -> int:
        """The largest size of the bracket expected to stay within the capacity; `runs` where none is."""
        samples = self._samples()
        low, high = self.runs, max(self.runs, 1)
        while high < self.fails and self._expected(high, samples) <= self.capacity_bytes:
            low, high = high, 2 * high
        high = min(high, self.fails)
        while high - low > 1:
            middle = (low + high) // 2
            if self._expected(middle, samples) <= self.capacity_bytes:
                low = middle
            else:
                high = middle
        return low

    def _expected(self, size: int, samples: list[tuple[int, float]]) -> float:
        return self.known.live_bytes(*self.line.cell(size)) * _interpolated(samples, size)

    def _samples(self) -> list[tuple[int, float]]:
        """(size, reserved over live) of every replay without a limit on this line, by size."""
        samples = []
        for cell, peaks in self.known.natural.items():
            size = self.line.size(cell)
            if size is not None:
                samples.append((size, peaks.reserved_bytes / max(self.known.live_bytes(*cell), 1)))
        return sorted(samples)


def _step(times: int) -> int:
    """1, 1, 2, 4, 8 ...: the neighbour first, for it is what proves an answer."""
    return 1 << max(times - 1, 0)


def _interpolated(samples: list[tuple[int, float]], size: int) -> float:
    """The ratio at `size` on the straight line between its neighbours among the samples; the nearest one's outside them."""
    above = bisect_left(samples, (size, 0.0))
    if above == len(samples):
        return samples[-1][1] if samples else 1.0
    if above == 0 or samples[above][0] == size:
        return samples[above][1]
    (left, low), (right, high) = samples[above - 1], samples[above]
    return low + (high - low) * (size - left) / (right - left)
