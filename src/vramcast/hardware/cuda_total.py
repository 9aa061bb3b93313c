"""How much of a card CUDA offers: less than nvidia-smi's total, because the driver keeps a framebuffer of its own.

Read where somebody printed it, else worked out from the cards around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vramcast.units import MIB, format_bytes

Row = Mapping[str, Any]
"""A row of gpus.toml as it is written there."""


class CudaTotal(NamedTuple):
    """The fields `cuda_total_*` of a GPU, in bytes."""

    nbytes: int
    low_bytes: int
    high_bytes: int
    source: str
    is_read: bool

    def fields(self) -> dict[str, Any]:
        """By the names that a GPU has for them."""
        return {
            "cuda_total_bytes": self.nbytes,
            "cuda_total_low_bytes": self.low_bytes,
            "cuda_total_high_bytes": self.high_bytes,
            "cuda_total_source": self.source,
            "cuda_total_is_read": self.is_read,
        }


class _Kept(NamedTuple):
    """What the driver keeps of one card, in MiB."""

    name: str
    memory: int
    least: int
    most: int


def cuda_total(row: Row, rows: Iterable[Row]) -> CudaTotal:
    """What CUDA offers of the card in `row`: its readings, else what those of the cards in `rows` make likely.

    Two readings are the lowest and the highest, three have the usual one between them. Without a usual one the lowest is the best
    estimate: a verdict must not promise what some such card does not have. A single reading says nothing of other drivers, so the
    ends of its band are those of the cards around it.
    """
    if "cuda_total_mib" not in row:
        return _likely(row, rows)
    low, *usual, high = row["cuda_total_mib"]
    best = usual[0] if usual else low
    if low == high:
        low, high = _widened(row, rows)
    return CudaTotal(best * MIB, low * MIB, high * MIB, row["cuda_total_source"], is_read=True)


def _likely(row: Row, rows: Iterable[Row]) -> CudaTotal:
    """For a card without a reading, from those that are most alike and next to it in memory.

    The driver keeps more of a larger card, but not a larger share of it: page tables, the heap of its firmware and ECC grow with the
    memory, the rest does not. So this card's driver keeps at least what it keeps of the smaller ones and at most what it keeps of the
    larger ones; where there are none, the share of the others takes their place. The best estimate is the lowest total.
    """
    memory: int = row["memory_total_mib"]
    smaller, larger = _neighbours(row, _alike(row, rows))
    # Where all of them are on one side, the two ends come from one rule each and may change places by a few MiB.
    least, most = sorted(
        (
            min(kept.least for kept in smaller)
            if smaller
            else min(_share(kept.least, kept, memory) for kept in larger),
            max(kept.most for kept in larger) if larger else max(_share(kept.most, kept, memory) for kept in smaller),
        )
    )
    low, high = (memory - most) * MIB, (memory - least) * MIB
    kept_text = f"{format_bytes(least * MIB)} to {format_bytes(most * MIB)}"
    names = ", ".join(dict.fromkeys(kept.name for kept in (*smaller, *larger)))
    return CudaTotal(
        low, low, high, f"no reading; the driver is taken to keep {kept_text}, as of {names}", is_read=False
    )


def _widened(row: Row, rows: Iterable[Row]) -> tuple[int, int]:
    """The band of a single reading in MiB: as far as the cards next to it in memory and of its own capability go."""
    own = _kept(row)
    others = [other for other in _alike(row, rows, ("compute_capability",)) if other.name != own.name]
    smaller, larger = _neighbours(row, others)
    least = min((own.least, *(kept.least for kept in smaller)))
    most = max((own.most, *(kept.most for kept in larger)))
    return own.memory - most, own.memory - least


def _alike(
    row: Row, rows: Iterable[Row], likeness: tuple[str, ...] = ("compute_capability", "architecture", "vendor")
) -> list[_Kept]:
    """The cards with a reading that share the first of `likeness` which any of them shares."""
    readings = [other for other in rows if "cuda_total_mib" in other]
    for key in likeness:
        found = [_kept(other) for other in readings if key in row and other.get(key) == row[key]]
        if found:
            return found
    return []


def _neighbours(row: Row, kept: list[_Kept]) -> tuple[list[_Kept], list[_Kept]]:
    """The next smaller and the next larger cards in memory; those with as much are on both sides."""
    memory = row["memory_total_mib"]
    below = max((one.memory for one in kept if one.memory <= memory), default=None)
    above = min((one.memory for one in kept if one.memory >= memory), default=None)
    return [one for one in kept if one.memory == below], [one for one in kept if one.memory == above]


def _kept(row: Row) -> _Kept:
    memory, readings = row["memory_total_mib"], row["cuda_total_mib"]
    return _Kept(row["name"], memory, memory - readings[-1], memory - readings[0])


def _share(kept_mib: int, card: _Kept, memory: int) -> int:
    return round(kept_mib / card.memory * memory)
