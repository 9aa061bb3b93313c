"""`vramcast run`: a user's script, unmodified, on a virtual GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vramcast.cli.parameters import EXIT_INTERRUPTED, CheckFlag, JsonFlag, StrictFlag
from vramcast.cli.showing import check_strict, code_of, print_json
from vramcast.errors import InputError
from vramcast.forecast.answer import gpu_of_script
from vramcast.forecast.engine import require_torch_for_scripts
from vramcast.forecast.room import room_of
from vramcast.job.script import ScriptOptions
from vramcast.script_process import Request, run_on_ranks

if TYPE_CHECKING:
    from vramcast.forecast.script_run import ScriptRun


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
    strict: StrictFlag = False,
) -> int:
    """Run a training or generation script, unmodified, on a virtual GPU: peaks, live memory by source line, the line that fails.

    Options stand before the script's name; what follows it belongs to the script.
    """
    check_strict(check, strict)
    if module is None and not words:
        raise InputError("script", "", "give the path of a Python script, or -m and a module")
    target, arguments = (words[0], words[1:]) if module is None else (module, words)
    _check_outputs(timeline, snapshot)
    require_torch_for_scripts()
    room_of(gpu_of_script(options), margin=options.margin)
    request = Request(
        target=target,
        arguments=arguments,
        is_module=module is not None,
        options=options,
        timeline=None if timeline is None else timeline.absolute(),
        snapshot=None if snapshot is None else snapshot.absolute(),
        prints_to_stderr=json,
    )
    watched = run_on_ranks(request, os.environ)
    if json:
        print_json(watched.answer.to_dict())
    else:
        _print(watched.answer)
    if watched.refusal is not None:  # last: an answer that took a while is not lost with a full disk
        raise watched.refusal
    if watched.answer.ended == "interrupted":
        return EXIT_INTERRUPTED
    return code_of(watched.answer.verdict, check, strict)


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


def _print(answer: ScriptRun) -> None:
    from rich.console import Console

    from vramcast.views.script_terminal import print_script_run

    print_script_run(answer, Console())
