"""The measuring process: one job, on one machine, its outcome written to a file."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from validation.campaign_jobs import CampaignJob, find_job

GO = "go"
"""The line for which a process that was started ahead waits before it touches the GPU."""
_EARLY = "CUDA was used before the job's turn: the device memory of the job before it counts this process too"
_ABANDONED = 3
"""Exit code where the campaign has ended."""
_CALLER = ("nn", "modules", "module.py")
_SHOWN_FRAMES, _MESSAGE_CHARACTERS = 4, 2000
_RUNNERS = {
    "probe": ("validation.campaign_probes", "run_probe"),
    "training": ("validation.campaign_training", "run_training"),
    "generation": ("validation.campaign_generation", "run_generation"),
}


def run_child(job_id: str, *, device: str, gpu: str, outcome: Path, wait: bool) -> None:
    """Run a job and write `{"status", "message", "readings", "seconds"}` to `outcome`."""
    job = find_job(job_id)
    started, is_early = time.monotonic(), False

    def ready() -> None:
        nonlocal started, is_early
        is_early = _uses_cuda()
        if wait:
            _await_turn()
        started = time.monotonic()

    result = _measured(job, device, gpu, ready)
    result["seconds"] = round(time.monotonic() - started, 2)
    if is_early:
        result["readings"].setdefault("notes", {})["early_context"] = _EARLY
    _write(outcome, result)


def _await_turn() -> None:
    if sys.stdin.readline().strip() != GO:
        sys.exit(_ABANDONED)
    threading.Thread(target=_end_with_the_campaign, daemon=True).start()


def _uses_cuda() -> bool:
    return "torch" in sys.modules and bool(sys.modules["torch"].cuda.is_initialized())


def _end_with_the_campaign() -> None:
    """A job that nobody waits for any more must not be on the GPU beside the next one."""
    # Not through sys.stdin, whose lock a waiting thread would hold when Python ends.
    if not os.read(sys.stdin.fileno(), 1):
        os._exit(_ABANDONED)


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
        message = f"{type(error).__name__}: {str(error)[:_MESSAGE_CHARACTERS]} [{_where(error)}]"
        marks = machine.marks if machine is not None else []
        return {
            "status": "oom" if is_out_of_memory else "failed",
            "message": message,
            "readings": {"marks": marks},
        }


def _where(error: Exception) -> str:
    """The innermost frames, those that only call the next module left out."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [f"{path.name}:{line}" for path, line in frames if path.parts[-3:] != _CALLER]
    return " > ".join(places[-_SHOWN_FRAMES:])


def _machine(device: str, gpu: str, expandable_segments: bool) -> Any:
    machine_class = importlib.import_module("validation.campaign_machine").Machine
    return machine_class(device, gpu=gpu, expandable_segments=expandable_segments)


def _write(path: Path, data: dict[str, Any]) -> None:
    """The file appears only when complete."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(data), encoding="utf-8")
    unfinished.rename(path)
