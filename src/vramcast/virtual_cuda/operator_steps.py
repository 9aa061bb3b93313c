"""The last optimizer step of a program that nobody cut into steps."""

from __future__ import annotations

from vramcast.timeline import OperatorTable
from vramcast.virtual_cuda.operator_log import OperatorInterval, OperatorLog


class OperatorSteps:
    """Keeps what lies between the last two optimizer steps, and forgets what lies before: memory does not grow with steps."""

    def __init__(self, log: OperatorLog) -> None:
        self._log = log
        self._now = log.begin()
        self._step = OperatorInterval()
        self._steps = 0

    def step_ends(self) -> None:
        """An optimizer stepped.

        Without a backward pass since the last one it was another optimizer of the same step.
        """
        ended, self._now = self._log.end(self._now), self._log.begin()
        if self._steps and not ended.has_phase("backward"):
            self._step.add(ended)
            return
        self._step = ended
        self._steps += 1

    def tables(self) -> dict[str, OperatorTable]:
        """`step` once two optimizer steps have been made, else everything as `run`."""
        if self._steps > 1:
            return {"step": self._step.table()}
        run = OperatorInterval()
        run.add(self._step)
        run.add(self._now)
        return {"run": run.table()}
