"""`vramcast run`: a user's script, unmodified, on a virtual GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vramcast.cli.parameters import EXIT_DONE, EXIT_INTERRUPTED, CheckFlag, JsonFlag
from vramcast.cli.showing import code_of, print_json
from vramcast.errors import InputError
from vramcast.forecast.engine import run_script
from vramcast.hardware import allocator_capacity_bytes
from vramcast.job.script import ScriptOptions

if TYPE_CHECKING:
    from vramcast.dry_run import DryRun

EXIT_SCRIPT_FAILED = 1


def run(
    *words: Annotated[
        str,
        Parameter(allow_leading_hyphen=True, name="SCRIPT ARGUMENTS", help="A Python script and its own arguments."),
    ],
    module: Annotated[
        str | None, Parameter(name=["--module", "-m"], help="Run a module, as `python -m` does, in place of a script.")
    ] = None,
    options: Annotated[ScriptOptions, Parameter(name="*")] = ScriptOptions(),  # noqa: B008  (frozen)
    timeline: Annotated[
        Path | None, Parameter(help="Write a picture of memory over the run: FILE.html (to explore) or FILE.svg.")
    ] = None,
    snapshot: Annotated[
        Path | None, Parameter(help="Write a memory snapshot for PyTorch's viewer (pytorch.org/memory_viz).")
    ] = None,
    json: JsonFlag = False,
    check: CheckFlag = False,
) -> int:
    """Run a training or generation script, unmodified, on a virtual GPU: peaks, live memory by source line, the line that fails.

    Options stand before the script's name; what follows it belongs to the script.
    """
    if module is None and not words:
        raise InputError("script", "", "give the path of a Python script, or -m and a module")
    target, arguments = (words[0], words[1:]) if module is None else (module, words)
    _check_outputs(timeline, snapshot)
    done = run_script(target, arguments, options, is_module=module is not None)
    if done.error is not None:
        _print_error(done.error)
    if json:
        print_json(done.answer.to_dict())
    else:
        _print(done)
    _write(done, timeline, snapshot)  # last: an answer that took a while is not lost with a full disk
    return _code(done, check)


def _check_outputs(timeline: Path | None, snapshot: Path | None) -> None:
    """Before the run, which may take a while."""
    if timeline is not None:
        from vramcast.views.timeline_file import check_timeline_path

        check_timeline_path(timeline)
    if snapshot is not None:
        _check_snapshot(snapshot)


def _check_snapshot(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError("snapshot", str(path), "this is a folder; name a file in it")
        if not path.parent.is_dir():
            raise InputError("snapshot", str(path), "its folder does not exist; make it first")
    except OSError as error:  # such as a name that is too long
        raise InputError("snapshot", str(path), f"cannot be written: {error.strerror}") from error


def _write(done: DryRun, timeline: Path | None, snapshot: Path | None) -> None:
    machine = done.machine
    if timeline is not None:
        from vramcast.forecast.memory_curve import memory_curve
        from vramcast.views.script_rows import ending_line, line_label
        from vramcast.views.timeline_file import curve_points, write_timeline

        curve = memory_curve(
            machine.timeline, machine.allocator_config, machine.capacity_bytes, points=curve_points(timeline)
        )
        write_timeline(
            timeline,
            curve,
            f"{done.answer.script}: {ending_line(done.answer)}",
            gpu_memory_bytes=machine.gpu.memory_total_bytes,
            capacity_bytes=allocator_capacity_bytes(machine.gpu),
            live_lines=[(line_label(line), line.bytes) for line in done.answer.live_lines],
        )
    if snapshot is not None:
        from vramcast.allocator.snapshot_writer import write_snapshot

        try:
            assert machine.source_lines is not None
            write_snapshot(
                machine.timeline,
                snapshot,
                config=machine.allocator_config,
                capacity_bytes=machine.capacity_bytes,
                code_lines=machine.source_lines.of_allocations,
            )
        except OSError as error:
            raise InputError("snapshot", str(snapshot), f"cannot be written: {error.strerror}") from error


def _print_error(error: BaseException) -> None:
    import sys

    from vramcast.dry_run.traceback import script_traceback

    if not isinstance(error, SystemExit):
        print(script_traceback(error), file=sys.stderr, end="")
    elif error.code is not None and not isinstance(error.code, int):
        print(error.code, file=sys.stderr)


def _print(done: DryRun) -> None:
    from rich.console import Console

    from vramcast.views.script_terminal import print_script_run

    print_script_run(done.answer, Console())


def _code(done: DryRun, check: bool) -> int:
    if done.answer.ended == "interrupted":
        return EXIT_INTERRUPTED
    # A gate that nothing went through is not passed.
    if done.answer.failed or (check and done.answer.peak_allocated_bytes == 0):
        return EXIT_SCRIPT_FAILED
    return code_of(done.answer, check) if check else EXIT_DONE
