"""The error table by kind of job: median and largest error of every setting that more than one value was measured of."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SETTINGS = (
    "model",
    "precision",
    "attention",
    "checkpointing",
    "optimizer",
    "dropout",
    "gradient_accumulation_steps",
    "cache",
    "expandable_segments",
)
_DEFAULTS = {
    "training": {
        "precision": "fp32",
        "attention": "sdpa",
        "checkpointing": "none",
        "optimizer": "adamw",
        "dropout": "the model's",
        "gradient_accumulation_steps": 1,
        "expandable_segments": False,
    },
    "generation": {"precision": "bf16", "attention": "sdpa", "cache": "dynamic", "expandable_segments": False},
}


@dataclass(frozen=True, slots=True)
class Group:
    """Errors of all jobs of one kind with one value of one setting, in percent of what was measured."""

    kind: str
    setting: str
    value: str
    count: int
    equal: int
    """How many are equal to the byte."""
    median_percent: float
    worst_percent: float
    worst_id: str


def error_groups(jobs: Iterable[tuple[str, str, dict[str, Any], float]]) -> list[Group]:
    """A group for every kind of job, and for every value of its settings.

    Args:
        jobs: (id, kind, fields of the job, error in percent) of each.
    """
    members: dict[tuple[str, str, str], list[tuple[float, str]]] = defaultdict(list)
    for job_id, kind, fields, percent in jobs:
        settings = _DEFAULTS[kind] | fields
        members[kind, "all", ""].append((abs(percent), job_id))
        for name in SETTINGS:
            if name in settings:
                members[kind, name, str(settings[name])].append((abs(percent), job_id))
    groups = [_group(key, errors) for key, errors in members.items()]
    order = ("all", *SETTINGS)
    return sorted(groups, key=lambda group: (group.kind != "training", order.index(group.setting), group.value))


def _group(key: tuple[str, str, str], errors: Sequence[tuple[float, str]]) -> Group:
    worst, worst_id = max(errors)
    percents = [error for error, _ in errors]
    return Group(*key, len(errors), percents.count(0), statistics.median(percents), worst, worst_id)


def print_groups(title: str, groups: Sequence[Group]) -> None:
    """As a table."""
    print(f"{title:56}{'n':>5}{'equal':>7}{'median %':>10}{'worst %':>10}  worst job")
    for group in groups:
        name = f"{group.kind} {group.setting} {group.value}".strip()
        figures = f"{group.count:5}{group.equal:7}{group.median_percent:10.3f}{group.worst_percent:10.3f}"
        print(f"{name:56}{figures}  {group.worst_id if group.worst_percent else ''}")
