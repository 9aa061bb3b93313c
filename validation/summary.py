"""Median error and shares of a set of comparisons, and the bars they have to reach."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from statistics import median

from validation.published import Kind
from validation.running import Comparison

MEDIAN_BARS: dict[Kind, float] = {"allocated": 0.002, "reserved": 0.005}
"""Largest median of the absolute relative error."""
WIDE_ERROR, WIDE_SHARE = 0.02, 0.95
"""This share of all rows has to lie within that error."""


@dataclass(frozen=True)
class Summary:
    """Absolute relative errors of one kind of figure; shares are of `count`, which includes rows that failed."""

    kind: str
    count: int
    median_error: float
    within_half_percent: float
    within_one_percent: float
    within_two_percent: float

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


def summarize(comparisons: Iterable[Comparison], kind: str) -> Summary | None:
    """Summary of the rows of one kind ("all": of every kind); None where there is no such row."""
    chosen = [c for c in comparisons if kind in ("all", c.published.kind)]
    if not chosen:
        return None
    errors = [float("inf") if c.error is None else abs(c.error) for c in chosen]
    shares = (sum(error <= limit for error in errors) / len(errors) for limit in (0.005, 0.01, WIDE_ERROR))
    return Summary(kind, len(errors), median(errors), *shares)


def summaries(comparisons: Iterable[Comparison]) -> list[Summary]:
    """One for each kind of figure and over all of them for rows graded A on one GPU, then of the others."""
    comparisons = list(comparisons)
    plain = [c for c in comparisons if has_bars(c)]
    found = [summarize(plain, kind) for kind in ("allocated", "reserved", "nvidia-smi", "all")]
    several = [c for c in comparisons if c.published.world_size != 1]
    assumed = [c for c in comparisons if c.published.world_size == 1 and not has_bars(c)]
    for label, others in (("several GPUs, all", several), ("one GPU, graded B, all", assumed)):
        summary = summarize(others, "all")
        found.append(None if summary is None else replace(summary, kind=label))
    return [summary for summary in found if summary is not None]


def has_bars(comparison: Comparison) -> bool:
    """The inputs are known, and one process is the whole job."""
    return comparison.published.grade == "A" and comparison.published.world_size == 1


def missed_bars(comparisons: Iterable[Comparison]) -> list[str]:
    """A sentence for each bar that is missed; empty where all are reached.

    Only rows graded A on one GPU count. No comparison at all is a miss: nothing was shown.
    """
    graded = [c for c in comparisons if has_bars(c)]
    if not graded:
        return ["no row was compared"]
    missed = [f"{c.published.id} failed: {c.failure}" for c in graded if c.result is None]
    for kind, bar in MEDIAN_BARS.items():
        summary = summarize(graded, kind)
        if summary is not None and summary.median_error > bar:
            missed.append(f"median error of {kind} is {summary.median_error:.3%}, the bar is {bar:.1%}")
    overall = summarize(graded, "all")
    assert overall is not None
    if overall.within_two_percent < WIDE_SHARE:
        missed.append(f"{overall.within_two_percent:.1%} of the rows are within 2 %, the bar is {WIDE_SHARE:.0%}")
    return missed
