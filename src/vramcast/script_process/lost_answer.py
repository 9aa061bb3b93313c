"""The answer of a dry run whose process ended before it had one: what its counters say, and no verdict."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

from vramcast.forecast.answer import gpu_of_script
from vramcast.forecast.forecast import SCHEMA_VERSION
from vramcast.forecast.room import room_of
from vramcast.forecast.script_run import Ending
from vramcast.script_process.flight_log import read_counters
from vramcast.script_process.run_folder import Request, RunFolder

_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+)')
_OWN_FOLDER = str(Path(__file__).parent.parent)


def lost_answer(folder: RunFolder, request: Request, code: int) -> dict[str, Any]:
    """The fields of a `ScriptRun`. Its breakdown is empty: which tensors there were is gone with the process.

    Args:
        folder: of the run.
        request: what was to be run.
        code: how the process ended, negative for a signal.
    """
    counters = read_counters(folder.counters)
    ended, error = _ending(folder, code)
    room = room_of(gpu_of_script(request.options), margin=request.options.margin)
    parts = room.parts(counters.peak_reserved_bytes)
    return {
        "schema_version": SCHEMA_VERSION,
        "workload": "code",
        "model": Path(request.target).name,
        "parameters": 0,
        "peak_allocated_bytes": counters.peak_allocated_bytes,
        **room.fields(counters.peak_reserved_bytes, parts),
        "peak_phase": "",
        "breakdown": (),
        "instants": (),
        "flops_per_step": 0,
        "engine": "trace",
        "verdict": "unknown",
        "assumptions": ("the peaks are those until the process ended; what they were made of is lost with it",),
        "settings": request.options.model_dump(mode="json"),
        "script": request.target,
        "arguments": request.arguments,
        "ended": ended,
        "error": error,
        "error_line": _fatal_line(folder),
        "refusals": folder.said("refusal"),
        "allocations": counters.allocations,
        "optimizer_steps": counters.optimizer_steps,
        "steps": (),
        "out_of_memory": (),
        "num_alloc_retries": 0,
        "live_lines": (),
        "world_size": request.options.world_size,
        "seconds": 0.0,
        "host_memory_bytes": 0,
    }


def _ending(folder: RunFolder, code: int) -> tuple[Ending, str]:
    internal = folder.said("internal error")
    if internal:
        return "internal_error", internal[0]
    replaced = folder.said("exec")
    if replaced:
        return "replaced", replaced[-1]
    if code == -signal.SIGINT:
        return "interrupted", ""
    if code >= 0:
        return "os_exit", str(code)
    try:
        return "killed", signal.Signals(-code).name
    except ValueError:
        return "killed", f"signal {-code}"


def _fatal_line(folder: RunFolder) -> str:
    """The script's own line at the top of what Python's fault handler wrote, such as `train.py:12`."""
    if not folder.fatal_traceback.exists():
        return ""
    frames = _FRAME.findall(folder.fatal_traceback.read_text(encoding="utf-8", errors="replace"))
    own = [(path, line) for path, line in frames if not _is_passed_over(path)]
    return f"{Path(own[0][0]).name}:{own[0][1]}" if own else ""


def _is_passed_over(path: str) -> bool:
    return path.startswith((_OWN_FOLDER, "<")) or "site-packages" in path or "/lib/python3" in path
