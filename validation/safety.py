"""How far a verdict can be trusted: every published reserved or nvidia-smi figure beside the interval of its forecast.

A card that has just the high end "fits". So a published figure above the high end is a card on which "fits" was false. Where a source
publishes its context too, that stands for the product's estimate, and the figure is named so: it is how the runs before CUDA 11.7 can be
judged, which loads kernels when they are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from validation.published import Published
from validation.running import Comparison
from vramcast.forecast.uncertainty import Interval, interval

INSIDE_SHARE = 0.95
"""This share of the rows graded A has to lie inside the interval; "fits" may be false for none of them."""
_FIGURES = ("reserved", "nvidia-smi")
_GENERATION = ("generate", "prefill")


@dataclass(frozen=True)
class Judged:
    """One published figure and the interval of its forecast, in bytes."""

    id: str
    job: str
    figure: str
    grade: str
    low_bytes: int
    best_bytes: int
    published_bytes: int
    high_bytes: int
    reserved_bytes: int
    """Best estimate of the reserved peak."""
    reserved_width_bytes: int
    """How wide the interval is without what is outside PyTorch's allocator."""

    @property
    def is_inside(self) -> bool:
        """The published figure lies within the interval, its ends included."""
        return self.low_bytes <= self.published_bytes <= self.high_bytes

    @property
    def is_false_fit(self) -> bool:
        """A card between the high end and the published figure would be said to fit, and does not."""
        return self.published_bytes > self.high_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"inside": self.is_inside, "false_fit": self.is_false_fit}


@dataclass(frozen=True)
class Safety:
    """All rows of one kind of job, one figure and one grade; widths are means."""

    job: str
    figure: str
    grade: str
    rows: int
    inside: int
    false_fits: int
    width_bytes: int
    width_percent: float
    """Of the reserved peak."""
    reserved_width_percent: float
    """The same without context, NCCL and what the driver keeps."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def kind_of_job(row: Published) -> str:
    """What the interval depends on and a reader asks for."""
    if row.world_size != 1:
        return "several GPUs"
    workload = row.fields["workload"]
    if workload == "kernel":
        return "one GPU, kernel"
    return "one GPU, generation" if workload in _GENERATION else "one GPU, training"


def judged(comparison: Comparison) -> Judged | None:
    """The interval of a row; None where the figure has none, or the workload failed or has no room."""
    row, result = comparison.published, comparison.result
    if row.kind not in _FIGURES or result is None or result.room is None:
        return None
    reserved, room = result.peak_reserved_bytes, result.room
    parts = room.parts(reserved)
    inner = interval(reserved, parts, ("reserved",))
    figure, outer, outside = str(row.kind), inner, 0
    if row.kind == "nvidia-smi" and result.device_extra_bytes is not None:
        figure, outside = "nvidia-smi, context published", result.device_extra_bytes
        outer = Interval(inner.low_bytes + outside, inner.high_bytes + outside)
    elif row.kind == "nvidia-smi":
        outer, outside = room.device_used(reserved, parts), room.outside_bytes
    return Judged(
        id=row.id,
        job=kind_of_job(row),
        figure=figure,
        grade=row.grade,
        low_bytes=outer.low_bytes,
        best_bytes=reserved + outside,
        published_bytes=row.value_bytes,
        high_bytes=outer.high_bytes,
        reserved_bytes=reserved,
        reserved_width_bytes=inner.high_bytes - inner.low_bytes,
    )


def all_judged(comparisons: Iterable[Comparison]) -> list[Judged]:
    """Every row that has an interval, in the order given."""
    return [row for row in map(judged, comparisons) if row is not None]


def safeties(rows: Iterable[Judged]) -> list[Safety]:
    """One for each kind of job, figure and grade that occurs, then one for each grade."""
    rows = list(rows)
    kinds = sorted({(row.grade, row.job, row.figure) for row in rows})
    summed = [
        _summed(job, figure, grade, [row for row in rows if (row.grade, row.job, row.figure) == (grade, job, figure)])
        for grade, job, figure in kinds
    ]
    grades = sorted({row.grade for row in rows})
    return summed + [_summed("all", "all", grade, [row for row in rows if row.grade == grade]) for grade in grades]


def _summed(job: str, figure: str, grade: str, rows: list[Judged]) -> Safety:
    return Safety(
        job,
        figure,
        grade,
        rows=len(rows),
        inside=sum(row.is_inside for row in rows),
        false_fits=sum(row.is_false_fit for row in rows),
        width_bytes=round(fmean(row.high_bytes - row.low_bytes for row in rows)),
        width_percent=100 * fmean((row.high_bytes - row.low_bytes) / row.reserved_bytes for row in rows),
        reserved_width_percent=100 * fmean(row.reserved_width_bytes / row.reserved_bytes for row in rows),
    )


def missed_safety(rows: Iterable[Judged]) -> list[str]:
    """A sentence for each false "fits", and one where too few rows lie inside; empty where there is no row to say it of.

    Only rows graded A count: what others rest on, an assumption of the publisher's inputs, is no forecast's doing.
    """
    rows = [row for row in rows if row.grade == "A"]
    missed = [
        f"{row.id}: published {row.published_bytes} bytes, above the high end {row.high_bytes}"
        for row in rows
        if row.is_false_fit
    ]
    inside = sum(row.is_inside for row in rows)
    if rows and inside < INSIDE_SHARE * len(rows):
        missed.append(f"{inside} of {len(rows)} rows lie inside their interval, the bar is {INSIDE_SHARE:.0%}")
    return missed
