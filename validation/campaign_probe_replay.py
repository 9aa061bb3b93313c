"""The simulated allocator against the real one: the memory history of a training job, compared block by block."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from validation.campaign_jobs import CampaignJob
from validation.campaign_process import SNAPSHOT_VARIABLE
from validation.campaign_training import model_config, train, training_options
from vramcast.allocator import (
    AllocatorConfig,
    compare_with_snapshot,
    read_snapshot,
    replay,
    snapshot_config,
    snapshot_to_timeline,
    write_snapshot,
)
from vramcast.record.building import ModelBuilder, weight_dtype

if TYPE_CHECKING:
    from validation.campaign_machine import Machine

MAX_ENTRIES = 200_000
"""Entries of the history; three steps of a few layers make some ten thousand."""
_SHOWN = 20


def replay_history(*, machine: Machine, job: CampaignJob, **_: Any) -> dict[str, Any]:
    """Train with the history switched on, dump it, replay it, and say where blocks lie elsewhere."""
    options = training_options(job)
    build = ModelBuilder(
        model_config(job), attention=options.attention, dtype=weight_dtype(options.precision), dropout=options.dropout
    )
    if machine.kind == "cuda":
        # Without a context there is no allocator yet whose history could be recorded.
        torch.cuda.init()
        torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_ENTRIES)
    train(options, machine, build())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.pickle"
        _dump(machine, path)
        _keep(path)
        return _compare(path) | {f"measured_{key}": value for key, value in machine.memory().items()}


def _dump(machine: Machine, path: Path) -> None:
    if machine.kind == "cuda":
        torch.cuda.memory._dump_snapshot(str(path))
        torch.cuda.memory._record_memory_history(enabled=None)
        return
    config = AllocatorConfig(expandable_segments=machine.expandable_segments)
    write_snapshot(machine.simulator.timeline, path, config=config, max_entries=MAX_ENTRIES)


def _compare(path: Path) -> dict[str, Any]:
    snapshot = read_snapshot(path)
    differences = compare_with_snapshot(snapshot)
    replayed = replay(snapshot_to_timeline(snapshot), config=snapshot_config(snapshot), deferred_free="ahead")
    return {
        "entries": len(snapshot.traces[0]),
        "segments": len(snapshot.segments),
        "snapshot_file_bytes": path.stat().st_size,
        "differences": len(differences),
        "first_differences": [difference.description for difference in differences[:_SHOWN]],
        "replayed_peak_allocated_bytes": replayed.peak_allocated_bytes,
        "replayed_peak_reserved_bytes": replayed.peak_reserved_bytes,
        "settings": {key: str(value) for key, value in snapshot.settings.items()},
    }


def _keep(path: Path) -> None:
    target = os.environ.get(SNAPSHOT_VARIABLE)
    if target:
        with path.open("rb") as source, gzip.open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
