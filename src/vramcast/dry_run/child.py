"""The process that a script runs in: `python -m vramcast.dry_run.child FOLDER`, started and watched by `vramcast.script_process`.

Whatever the script does to its process (exits, signals, forks, a closed stdout), the folder holds what was recorded until then.
"""

from __future__ import annotations

import atexit
import faulthandler
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vramcast.dry_run.forks import told_of_forks
from vramcast.dry_run.launch import Launch
from vramcast.dry_run.native_writers import guarded_writers
from vramcast.dry_run.outputs import write_outputs
from vramcast.dry_run.run import DryRun, ScriptOnGPU
from vramcast.dry_run.traceback import script_traceback
from vramcast.errors import InputError, VramcastError
from vramcast.put_aside import FileGuard
from vramcast.script_process.flight_log import Counters, FlightLog
from vramcast.script_process.run_folder import Request, RunFolder
from vramcast.virtual_cuda.refusals import HEARD


def main() -> None:
    """Run the request of the folder named on the command line."""
    folder = RunFolder(Path(sys.argv[1]))
    leave = os._exit
    end_with_parent()
    try:
        ScriptProcess(folder, leave).run()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:  # vramcast's own: the script's are kept by `ScriptOnGPU.execute`
        traceback.print_exc()
        folder.say("internal error", f"{type(error).__name__}: {error}")
    leave(0)  # the folder says what happened


class ScriptProcess:
    """One script in this process, and its answer."""

    def __init__(self, folder: RunFolder, leave: Callable[[int], Any]) -> None:
        self._folder, self._leave = folder, leave
        self._request: Request = folder.request()
        self._pid = os.getpid()
        self._log = FlightLog(folder.counters)
        self._ended = 0
        self._script: ScriptOnGPU | None = None

    def run(self) -> None:
        """Run the script and write the answer."""
        request, folder = self._request, self._folder
        guard = self._guard = FileGuard(
            folder.put_aside,
            folders=tuple({Path.cwd(), *([] if request.is_module else [Path(request.target).resolve().parent])}),
            left_alone=(folder.path,),
            keep_writes=request.options.keep_writes,
        )
        try:
            launch = Launch(request.target, request.arguments, request.is_module)
            launch.check()
            script = self._script = ScriptOnGPU(launch, request.options)
            self._listen(script)
            stdout = _remembering_stdout()
            with (
                guard.watching(),
                guarded_writers(guard),
                script.on_gpu(),
                told_of_forks(script.machine, folder),
            ):
                os._exit = self._leave_by_itself  # type: ignore[assignment]
                script.execute()
                self._leave_forked_copy(script)
                self._ended = 1
                self._note()
                _finish_process(script)
            if stdout is not None:
                stdout.end_line()
            self._answer(script.done(), prints_error=True)
        except VramcastError as refusal:
            folder.refuse(refusal)
        finally:
            if os.getpid() != self._pid:
                self._leave(0)

    def _listen(self, script: ScriptOnGPU) -> None:
        machine = script.machine
        self._allocations = 0
        machine.allocation_listeners.append(self._on_allocation)
        HEARD.append(lambda message: self._folder.say("refusal", message))
        sys.addaudithook(self._on_audit)
        fault_file = self._folder.fatal_traceback.open("w")
        faulthandler.enable(fault_file, all_threads=False)

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.exec" and os.getpid() == self._pid:
            self._folder.say("exec", " ".join(os.fsdecode(word) for word in arguments[1]))

    def _on_allocation(self) -> None:
        self._allocations += 1
        self._note()

    def _note(self) -> None:
        assert self._script is not None
        machine = self._script.machine
        peaks = machine.peak_allocated_bytes, machine.peak_reserved_bytes
        self._log.note(Counters(self._allocations, *peaks, machine.optimizer_steps, self._ended))

    def _leave_by_itself(self, code: int) -> None:
        """What stands in for `os._exit` while the script runs."""
        if os.getpid() == self._pid and self._script is not None:
            with suppress(Exception), self._guard.unheard():
                self._script.leaves(code)
                self._answer(self._script.done(), prints_error=False)
        self._leave(code)

    def _leave_forked_copy(self, script: ScriptOnGPU) -> None:
        """A fork of the script that has come to its end: there is one answer, and the first process gives it."""
        if os.getpid() == self._pid:
            return
        error = script.error
        if error is not None:
            _print_error(error)
        _flush()
        code = error.code if isinstance(error, SystemExit) else None
        self._leave(code if isinstance(code, int) else error is not None)

    def _answer(self, done: DryRun, *, prints_error: bool) -> None:
        if prints_error and done.error is not None:
            _print_error(done.error)
        self._folder.answer(done.answer.to_dict())
        try:
            write_outputs(done, self._request.timeline, self._request.snapshot)
        except InputError as refusal:
            self._folder.refuse(refusal)
        _flush()


def _finish_process(script: ScriptOnGPU) -> None:
    """What Python does after a script's last line, with the virtual GPU still there: threads end, exit handlers run.

    A script that was stopped at a step has not come to its end: nothing of it is waited for.
    """
    if not script.came_to_its_end:
        for process in multiprocessing.active_children():
            process.terminate()
        return
    with suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
    with suppress(Exception):
        atexit._run_exitfuncs()


def _print_error(error: BaseException) -> None:
    with suppress(Exception):  # a closed stderr
        if not isinstance(error, SystemExit):
            print(script_traceback(error), file=sys.stderr, end="")
        elif error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(Exception):
            if stream is not None:
                stream.flush()


class _RememberingStdout(io.TextIOWrapper):
    """Stdout that knows whether its last line is finished, so that the answer begins on a line of its own."""

    last = "\n"

    def write(self, text: str) -> int:
        """As in `io`."""
        if text:
            self.last = text[-1]
        return super().write(text)

    def end_line(self) -> None:
        """Finish the last line."""
        if self.last != "\n":
            with suppress(Exception):
                self.write("\n")


def _remembering_stdout() -> _RememberingStdout | None:
    before = sys.stdout
    if not isinstance(before, io.TextIOWrapper):
        return None
    encoding, errors = before.encoding, before.errors
    buffered, through = before.line_buffering, before.write_through
    stdout = _RememberingStdout(before.detach(), encoding, errors, line_buffering=buffered, write_through=through)
    sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc]
    return stdout


def end_with_parent() -> None:
    """Where the watcher is killed, the script goes too (Linux: PR_SET_PDEATHSIG)."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()
