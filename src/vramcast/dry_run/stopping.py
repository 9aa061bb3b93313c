"""Ends a script after so many optimizer steps, and reads the peaks at each."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vramcast.forecast.script_run import StepPeaks
from vramcast.virtual_cuda import VirtualGPU


class EnoughSteps(BaseException):
    """Raised in the script where it has made enough steps; no `except Exception` of its own stops it."""


class StepCounter:
    """Listens to a virtual GPU's optimizers.

    With several optimizers (one for matrices, one for the rest) a step is over when each has made its own.
    """

    def __init__(self, machine: VirtualGPU, most: int | None) -> None:
        """Count on `machine`, and raise `EnoughSteps` at step `most`, if given."""
        self._machine, self._most = machine, most
        self._of_each: Counter[int] = Counter()
        self.steps: list[StepPeaks] = []
        machine.step_listeners.append(self._on_step)

    def _on_step(self, optimizer: Any) -> None:
        self._of_each[id(optimizer)] += 1
        done = min(self._of_each.values())
        if done == len(self.steps):
            if done == self._of_each[id(optimizer)]:  # the others' step, which is not over before this one's
                self.steps[-1] = self._peaks()
            return
        self.steps.append(self._peaks())
        if self._most is not None and done >= self._most:
            raise EnoughSteps

    def _peaks(self) -> StepPeaks:
        return StepPeaks(
            peak_allocated_bytes=self._machine.peak_allocated_bytes,
            peak_reserved_bytes=self._machine.peak_reserved_bytes,
        )
