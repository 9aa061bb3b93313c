"""The campaign's side of a measuring process: start it ahead, let it go, end it."""

from __future__ import annotations

import contextlib
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
_END_SECONDS = 10.0
"""What a killed process gets to give its memory back; one that hangs inside the driver may never end."""
_FOREIGN = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "CUDA_LAUNCH_BLOCKING",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Settings of the surroundings, such as a container's, that change what a job takes."""


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
                env=_environment(variables or {}),
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._input = self._process.stdin

    def finish(self, timeout_seconds: float) -> Outcome:
        """Let it measure; the outcome is there soon after the timeout at the latest, whatever happens."""
        try:
            self._let_go()
            # Its input stays open: that it ends is how the process notices that the campaign has.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
            return self._read_outcome(timeout_seconds)
        finally:
            self.discard()

    def discard(self) -> None:
        """End it without an outcome, if it has not ended, and with it what it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._folder.cleanup()

    def _let_go(self) -> None:
        # One that has ended already has left an outcome, or its last words.
        with contextlib.suppress(BrokenPipeError):
            self._input.write(f"{GO}\n".encode())
            self._input.flush()

    def _read_outcome(self, timeout_seconds: float) -> Outcome:
        if self._outcome.exists():
            return Outcome(**json.loads(self._outcome.read_text(encoding="utf-8")))
        if self._process.returncode is None:
            return Outcome("timeout", f"no answer within {timeout_seconds:.0f} s", seconds=round(timeout_seconds, 2))
        tail = self._log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARACTERS:]
        return Outcome(
            "failed", f"the process ended with exit code {self._process.returncode}; its last output: {tail}"
        )


def job_command(program: Path, *arguments: str) -> list[str]:
    """Command line of a process of the campaign itself."""
    return [sys.executable, str(program), *arguments]


def _environment(variables: dict[str, str]) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    # Nothing is downloaded; a library that asks the Hub all the same is to fail at once, not to wait for a network.
    # With CUDA's own order of the GPUs, its numbers would not be those of nvidia-smi.
    return own | {"HF_HUB_OFFLINE": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | variables


def allocator_variables(expandable_segments: bool) -> dict[str, str]:
    """Environment of a job: its own allocator settings, never those of the surroundings."""
    value = "expandable_segments:True" if expandable_segments else "expandable_segments:False"
    return dict.fromkeys(ALLOCATOR_VARIABLES, value)
