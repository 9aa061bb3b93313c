"""The measuring process: one job, on one machine, its outcome written to a file."""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from validation.campaign_jobs import CampaignJob, find_job

GO = "go"
"""The line for which a process that was started ahead waits before it touches the GPU."""
_RUNNERS = {
    "probe": ("validation.campaign_probes", "run_probe"),
    "training": ("validation.campaign_training", "run_training"),
    "generation": ("validation.campaign_generation", "run_generation"),
}


def run_child(job_id: str, *, device: str, gpu: str, outcome: Path, wait: bool) -> None:
    """Run a job and write `{"status", "message", "readings", "seconds"}` to `outcome`."""
    job = find_job(job_id)
    started = time.monotonic()

    def ready() -> None:
        nonlocal started
        if wait and sys.stdin.readline().strip() != GO:
            sys.exit(3)
        started = time.monotonic()

    result = _measured(job, device, gpu, ready)
    result["seconds"] = round(time.monotonic() - started, 2)
    _write(outcome, result)


def describe_machine(*, device: str, gpu: str, outcome: Path) -> None:
    """Write the `versions` and `gpu` that records carry, in the form of an outcome."""
    _write(outcome, {"status": "ok", "readings": _machine(device, gpu, False).describe()})


def _measured(job: CampaignJob, device: str, gpu: str, ready: Callable[[], None]) -> dict[str, Any]:
    machine = None
    try:
        # Imported inside: a library that is missing is the job's failure, told in its record.
        machine = _machine(device, gpu, job.expandable_segments)
        module, name = _RUNNERS[job.kind]
        readings = getattr(importlib.import_module(module), name)(job, machine, ready)
        return {"status": "ok", "message": "", "readings": readings}
    except Exception as error:
        is_out_of_memory = type(error).__name__ == "OutOfMemoryError"
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} [{Path(where.filename).name}:{where.lineno}]"
        marks = machine.marks if machine is not None else []
        return {
            "status": "oom" if is_out_of_memory else "failed",
            "message": message[:2000],
            "readings": {"marks": marks},
        }


def _machine(device: str, gpu: str, expandable_segments: bool) -> Any:
    machine_class = importlib.import_module("validation.campaign_machine").Machine
    return machine_class(device, gpu=gpu, expandable_segments=expandable_segments)


def _write(path: Path, data: dict[str, Any]) -> None:
    """The file appears only when complete."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(data), encoding="utf-8")
    unfinished.rename(path)
