"""The jobs of the measurement campaign, read from `campaign_jobs.toml`. Standard library only."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator
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
_SHORT = {
    "batch_size": "b",
    "sequence_length": "t",
    "prompt_length": "p",
    "max_new_tokens": "n",
    "dropout": "drop",
    "gradient_accumulation_steps": "accum",
    "checkpointing": "ckpt-",
}
"""What stands before a value in the id of a job of a grid."""


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
        own = self.fields.get("config", {})
        if "model_type" in own:  # the whole of a model that is no preset
            return dict(own)
        text = (_PRESETS / f"{self.fields['model']}.json").read_text(encoding="utf-8")
        preset = {key: value for key, value in json.loads(text).items() if key != _NOTES_KEY}
        return preset | own

    def to_dict(self) -> dict[str, Any]:
        """What a record keeps of the job."""
        return dict(self.fields)


def all_jobs() -> tuple[CampaignJob, ...]:
    """The campaign for a GPU, in order of value: first the rows that are written out, then those of the grids."""
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
    return {
        "jobs": tuple(_job(row) for row in (*table["jobs"], *_rows_of(table["grids"]))),
        "rehearsal": tuple(_job(row) for row in (*table["rehearsal"], *_rows_of(table["rehearsal_grids"]))),
    }


def _rows_of(grids: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for grid in grids:
        yield from _grid_rows(grid)


def _grid_rows(grid: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for every combination of the values that a grid varies, the last name varying fastest."""
    common = {key: value for key, value in grid.items() if key != "vary"}
    names = list(grid["vary"])
    for values in itertools.product(*grid["vary"].values()):
        words = [f"{_SHORT.get(name, '')}{value}" for name, value in zip(names, values, strict=True)]
        yield common | dict(zip(names, values, strict=True)) | {"id": "-".join([grid["id"], *words])}


def _job(row: dict[str, Any]) -> CampaignJob:
    own = {key: row[key] for key in ("id", "kind", "cost_seconds") if key in row}
    return CampaignJob(**own, fields={key: value for key, value in row.items() if key not in own})
