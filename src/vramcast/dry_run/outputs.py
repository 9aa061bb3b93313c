"""What a dry run writes besides its answer: a picture of memory over the run, and a snapshot for PyTorch's viewer."""

from __future__ import annotations

from pathlib import Path

from vramcast.allocator.snapshot_writer import write_snapshot
from vramcast.dry_run.run import DryRun
from vramcast.errors import InputError
from vramcast.forecast.memory_curve import memory_curve
from vramcast.views.script_rows import ending_line, line_label
from vramcast.views.timeline_file import curve_points, write_timeline


def write_outputs(done: DryRun, timeline: Path | None, snapshot: Path | None) -> None:
    """Write what was asked for.

    Raises:
        InputError: a file cannot be written; names the flag.
    """
    if timeline is not None:
        _write_timeline(done, timeline)
    if snapshot is not None:
        _write_snapshot(done, snapshot)


def _write_timeline(done: DryRun, path: Path) -> None:
    machine, answer = done.machine, done.answer
    curve = memory_curve(machine.timeline, machine.allocator_config, machine.capacity_bytes, points=curve_points(path))
    write_timeline(
        path,
        curve,
        f"{answer.script}: {ending_line(answer)}",
        gpu_memory_bytes=answer.gpu_memory_bytes,
        capacity_bytes=answer.gpu_memory_bytes - answer.device_used_bytes + answer.peak_reserved_bytes,
        live_lines=[(line_label(line), line.bytes) for line in answer.live_lines],
    )


def _write_snapshot(done: DryRun, path: Path) -> None:
    machine = done.machine
    assert machine.source_lines is not None
    try:
        write_snapshot(
            machine.timeline,
            path,
            config=machine.allocator_config,
            capacity_bytes=machine.capacity_bytes,
            code_lines=machine.source_lines.of_allocations,
        )
    except OSError as error:
        raise InputError("snapshot", str(path), f"cannot be written: {error.strerror}") from error
