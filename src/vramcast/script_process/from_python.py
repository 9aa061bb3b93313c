"""A dry run from Python: in a process of its own, as a script expects, so that nothing of it stays in the caller's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from os import PathLike
from typing import Any

from vramcast.errors import RecordingError, ScriptError
from vramcast.forecast.engine import require_torch_for_scripts
from vramcast.forecast.script_run import ScriptRun
from vramcast.job.checking import checked_job
from vramcast.job.script import ScriptOptions

_MOST_OF_STDERR = 4000


def run_in_process(
    script: str | PathLike[str],
    arguments: Sequence[str],
    *,
    module: bool = False,
    folder: str | PathLike[str] | None = None,
    **options: Any,
) -> ScriptRun:
    """Run `vramcast run` and read its answer; what the script prints is not shown.

    Args:
        script: path of a Python script, or the name of a module.
        arguments: the script's own.
        module: run it as `python -m` does.
        folder: the folder to run in; the current one if not given.
        options: fields of `vramcast.job.script.ScriptOptions`.

    Raises:
        InputError: an option is unknown or its value not usable.
        RecordingError: the script cannot be followed, or there was no answer; tells what was printed on stderr.
        ScriptError: the script failed by itself, so that its peaks say nothing of a whole run.
        MissingExtraError: torch is not installed.
    """
    require_torch_for_scripts()
    flags = _flags(checked_job(ScriptOptions, options))
    target = ["-m", str(script)] if module else [str(script)]
    command = [sys.executable, "-m", "vramcast", "run", "--json", *flags, *target, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder, check=False)
    try:
        answer = ScriptRun(**json.loads(done.stdout))
    except (TypeError, ValueError):
        said = done.stderr.strip()[-_MOST_OF_STDERR:] or "nothing was printed on stderr"
        raise RecordingError(f"the dry run of {script} gave no answer (exit code {done.returncode}): {said}") from None
    if answer.ended == "refused":
        raise RecordingError(answer.error.partition(": ")[2])
    if answer.failed:
        raise ScriptError(f"{script} failed: {answer.error or answer.ended}")
    return answer


def _flags(options: ScriptOptions) -> list[str]:
    words: list[str] = []
    for name, value in options.model_dump(exclude_defaults=True).items():
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return words
