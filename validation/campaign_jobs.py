"""The jobs of the measurement campaign, read from `campaign_jobs.toml`. Standard library only."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["probe", "training", "generation"]
KINDS: tuple[Kind, ...] = ("probe", "training", "generation")

DEFAULT_COST_SECONDS = 5.0
_TABLE = Path(__file__).with_name("campaign_jobs.toml")
_PRESETS = Path(__file__).parents[1] / "src" / "vramcast" / "models" / "presets"
_NOTES_KEY = "_vramcast"


@dataclass(frozen=True, slots=True)
class CampaignJob:
    """One measurement, run in a process of its own."""

    id: str
    kind: Kind
    cost_seconds: float = DEFAULT_COST_SECONDS
    """Estimate of how long the GPU is busy with it."""
    fields: dict[str, Any] = field(default_factory=dict)
    """As in the table: a probe's arguments, or `model`, `config` and the fields of vramcast's job."""

    @property
    def expandable_segments(self) -> bool:
        """Whether the allocator is to use expandable segments."""
        return bool(self.fields.get("expandable_segments", False))

    def options(self) -> dict[str, Any]:
        """Fields of vramcast's `TrainingJob` or `GenerationJob`, the model left out."""
        return {key: value for key, value in self.fields.items() if key not in ("model", "config")}

    def config(self) -> dict[str, Any]:
        """The object of the model's config.json, with the job's own values put in."""
        text = (_PRESETS / f"{self.fields['model']}.json").read_text(encoding="utf-8")
        preset = {key: value for key, value in json.loads(text).items() if key != _NOTES_KEY}
        return preset | self.fields.get("config", {})

    def to_dict(self) -> dict[str, Any]:
        """What a record keeps of the job."""
        return dict(self.fields)


def all_jobs() -> tuple[CampaignJob, ...]:
    """The campaign for a GPU, in order of value."""
    return _jobs()["jobs"]


def rehearsal_jobs() -> tuple[CampaignJob, ...]:
    """Tiny jobs for the CPU; one of them fails on purpose."""
    return _jobs()["rehearsal"]


def find_job(job_id: str) -> CampaignJob:
    """The job of that id.

    Raises:
        KeyError: no such job.
    """
    for job in (*all_jobs(), *rehearsal_jobs()):
        if job.id == job_id:
            return job
    raise KeyError(f"job={job_id!r}: not in {_TABLE.name}; see --list")


@cache
def _jobs() -> dict[str, tuple[CampaignJob, ...]]:
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return {name: tuple(_job(row) for row in rows) for name, rows in table.items()}


def _job(row: dict[str, Any]) -> CampaignJob:
    own = {key: row.pop(key) for key in ("id", "kind", "cost_seconds") if key in row}
    return CampaignJob(**own, fields=row)
