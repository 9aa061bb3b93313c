"""What a forecast is not sure of, part by part: each has a name, bytes at both ends, a mechanism and a source."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

from vramcast.result import Result

JobKind = Literal["one GPU", "one GPU, fp16 autocast", "several GPUs"]
CountsIn = Literal["reserved", "device_used"]


class Uncertainty(Result):
    """One part. An end of an interval is the best estimate plus that end of every part."""

    name: str
    low_bytes: int
    """What the best estimate may be too high by: 0 or negative."""
    high_bytes: int
    """What it may be too low by: 0 or positive."""
    counts_in: CountsIn
    """`reserved`: inside PyTorch's allocator, so in the reserved peak and in the device's use; `device_used`: outside of it."""
    reason: str
    """Mechanism and source."""


class Interval(NamedTuple):
    """Both ends, in bytes."""

    low_bytes: int
    high_bytes: int


def interval(best_bytes: int, parts: Iterable[Uncertainty], counts_in: Iterable[CountsIn]) -> Interval:
    """The ends of a figure that the parts of these kinds belong to; never below zero."""
    kinds = set(counts_in)
    low = high = best_bytes
    for part in parts:
        if part.counts_in in kinds:
            low, high = low + part.low_bytes, high + part.high_bytes
    return Interval(max(low, 0), high)


class Spread(NamedTuple):
    """How far reserved memory lies from its forecast in jobs of one kind."""

    kind: JobKind
    low: float
    high: float
    source: str

    def part(self, reserved_bytes: int) -> Uncertainty:
        """The spread of a peak."""
        return Uncertainty(
            name="spread of reserved memory",
            low_bytes=int(reserved_bytes * self.low),
            high_bytes=int(reserved_bytes * self.high),
            counts_in="reserved",
            reason=f"{self.kind}: {self.source}",
        )


@cache
def spread_of(kind: JobKind) -> Spread:
    """The spread that published figures show for a kind of job."""
    text = resources.files("vramcast.forecast").joinpath("data", "reserved_spread.toml").read_text(encoding="utf-8")
    rows = {row["name"]: row for row in tomllib.loads(text)["kind"]}
    row = rows[kind]
    return Spread(kind, row["low"], row["high"], row["source"])


def merged(parts: Iterable[Uncertainty]) -> tuple[Uncertainty, ...]:
    """Those that are not zero, the widest first."""
    kept = [part for part in parts if part.low_bytes or part.high_bytes]
    return tuple(sorted(kept, key=lambda part: part.low_bytes - part.high_bytes))
