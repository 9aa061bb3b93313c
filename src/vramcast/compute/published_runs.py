"""How long published runs took beside the lower bound: experience to set next to a bound, in no other figure of an answer."""

import tomllib
from functools import cache
from importlib import resources
from typing import Literal

from vramcast.result import Result

Workload = Literal["training", "generation"]


class PublishedRuns(Result):
    """Measured times of published runs, each divided by the lower bound of its own job run eagerly."""

    what: str
    """Which runs, such as `trainings run eagerly`."""
    runs: int
    median_over_lower_bound: float
    """Half of the runs took longer than this many times `lower_bound_seconds`. No figure of the answer is multiplied by it."""
    p10_over_lower_bound: float
    """One run in ten was faster than this."""
    p90_over_lower_bound: float
    """One run in ten was slower than this."""


@cache
def published_runs(workload: Workload) -> PublishedRuns:
    """What is known of `training` or `generation`; sources and how the rows were asked are in the data file."""
    text = resources.files("vramcast.compute").joinpath("data", "published_runs.toml").read_text(encoding="utf-8")
    return PublishedRuns(**tomllib.loads(text)[workload])
