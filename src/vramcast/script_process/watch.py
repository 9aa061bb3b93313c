"""Starts the script's process, waits for whatever end it comes to, puts files back, and reads what it left."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from vramcast.errors import VramcastError
from vramcast.forecast.script_run import ScriptRun
from vramcast.put_aside import FileReport, put_back, recover_left_over
from vramcast.script_process.lost_answer import lost_answer
from vramcast.script_process.run_folder import Request, RunFolder

CHILD = "vramcast.dry_run.child"
_FROM_THE_TERMINAL = 0x80
"""`si_code` of a signal that the kernel sends, so that every process of the foreground group has got it (SI_KERNEL)."""
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WAIT_SECONDS = 1.0


class Watched(NamedTuple):
    """What a run left."""

    answer: ScriptRun
    refusal: VramcastError | None
    """Why something that was asked for besides the answer (a picture, a snapshot) is bad input."""


def watched_run(request: Request, environment: Mapping[str, str]) -> Watched:
    """Run a script in a process of its own.

    Args:
        request: what to run.
        environment: of the script, which is its user's and not vramcast's.

    Raises:
        InputError: the script's process refused what was asked for.
    """
    with _folder() as folder:
        folder.ask(request)
        code = _run(folder, request, environment)
        report = _put_back(folder)
        answered, refusal = folder.answered(), folder.refused()
        if answered is None:
            if refusal is not None:
                raise refusal
            answered = lost_answer(folder, request, code)
        return Watched(_completed(ScriptRun(**answered), folder, report), refusal)


def _put_back(folder: RunFolder) -> FileReport:
    """Files as they were; where that fails the folder stays, for originals lie in it."""
    try:
        report = put_back(folder.put_aside)
    except BaseException:
        folder.keep()
        raise
    if report.not_restored:
        folder.keep()
    return report


def _completed(answer: ScriptRun, folder: RunFolder, report: FileReport) -> ScriptRun:
    """The answer with what only this side knows."""
    children, files = (*folder.said("child"), *report.unguarded), tuple(report.sentences())
    named = tuple(f"what a process that the script started puts on a GPU is not counted: {name}" for name in children)
    told = (*named, *files, *answer.assumptions)
    return answer.model_copy(update={"files": files, "children": children, "assumptions": told})


@contextmanager
def _folder() -> Iterator[RunFolder]:
    """A folder for one run, locked while its watcher lives; what a watcher that was killed left is put back first."""
    root = _root()
    for report in recover_left_over(root):
        for sentence in report.sentences():
            print(f"vramcast: a run before this one was cut off; {sentence}", file=sys.stderr)
    path = root / uuid.uuid4().hex
    folder = RunFolder(path)
    folder.put_aside.mkdir(parents=True)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            if not folder.is_kept:
                shutil.rmtree(path, ignore_errors=True)


def _root() -> Path:
    import platformdirs

    root = platformdirs.user_state_path("vramcast") / "runs"
    try:
        root.mkdir(parents=True, exist_ok=True)
        return root if os.access(root, os.W_OK) else Path(tempfile.gettempdir())
    except OSError:
        return Path(tempfile.mkdtemp(prefix="vramcast-"))


def _run(folder: RunFolder, request: Request, environment: Mapping[str, str]) -> int:
    """The exit code of the script's process, negative for a signal."""
    # -P: the working folder's files must not stand in for the standard library's while vramcast itself is imported.
    command = [sys.executable, "-P", "-m", CHILD, str(folder.path)]
    with _signals() as came:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=_stderr() if request.prints_to_stderr else None
        )
        return _waited(process, came)


def _stderr() -> int | None:
    return 2


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals for this process are noted, and do not end it: the script decides what they mean."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in _FORWARDED}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield came
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _waited(process: subprocess.Popen[Any], came: list[int]) -> int:
    if not hasattr(signal, "sigtimedwait") or threading.current_thread() is not threading.main_thread():
        return process.wait()
    awaited = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        for number in came:  # before the mask was set; where they came from is not known, and most come from a program
            process.send_signal(number)
        terminations = 0
        while process.poll() is None:
            got = signal.sigtimedwait(awaited, _WAIT_SECONDS)
            if got is None or got.si_signo == signal.SIGCHLD:
                continue
            terminations += got.si_signo == signal.SIGTERM
            if got.si_signo == signal.SIGINT and got.si_code == _FROM_THE_TERMINAL:
                continue
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL if terminations > 1 else got.si_signo)
        return process.returncode
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
