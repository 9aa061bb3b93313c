"""The campaign's side of a measuring process: start it ahead, let it go, end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from validation.campaign_child import GO
from vramcast.measure.records import Status

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
SNAPSHOT_VARIABLE = "CAMPAIGN_SNAPSHOT"
"""Environment variable with the file that a replay probe copies its compressed snapshot to."""
_TAIL_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a measuring process left."""

    status: Status
    message: str = ""
    readings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class MeasuringProcess:
    """A process that does its imports at once and waits for `finish` before it touches the GPU."""

    def __init__(self, command: Sequence[str], *, variables: dict[str, str] | None = None) -> None:
        """Start `command`, to which `--outcome FILE` is added."""
        self._folder = tempfile.TemporaryDirectory(prefix="campaign-")
        self._outcome = Path(self._folder.name) / "outcome.json"
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            # A session of its own, so that a job's own children end with it.
            self._process = subprocess.Popen(
                [*command, "--outcome", str(self._outcome)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (variables or {}),
                start_new_session=True,
            )

    def finish(self, timeout_seconds: float) -> Outcome:
        """Let it measure; the outcome is there within the timeout, whatever happens."""
        try:
            self._process.communicate(f"{GO}\n".encode(), timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self.discard()
            return Outcome("timeout", f"no answer within {timeout_seconds:.0f} s", seconds=round(timeout_seconds, 2))
        except BaseException:
            self.discard()
            raise
        outcome = self._read_outcome()
        self._folder.cleanup()
        return outcome

    def discard(self) -> None:
        """End it without an outcome."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()

    def _read_outcome(self) -> Outcome:
        if self._outcome.exists():
            return Outcome(**json.loads(self._outcome.read_text(encoding="utf-8")))
        tail = self._log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARACTERS:]
        return Outcome(
            "failed", f"the process ended with exit code {self._process.returncode}; its last output: {tail}"
        )


def job_command(program: Path, *arguments: str) -> list[str]:
    """Command line of a process of the campaign itself."""
    return [sys.executable, str(program), *arguments]


def allocator_variables(expandable_segments: bool) -> dict[str, str]:
    """Environment of a job: its own allocator settings, never those of the surroundings."""
    value = "expandable_segments:True" if expandable_segments else "expandable_segments:False"
    return dict.fromkeys(ALLOCATOR_VARIABLES, value)
