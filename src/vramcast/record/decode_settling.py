"""Which steps repeat which: regimes of a generation found from a handful of recorded steps.

A regime ends where something changes for good, such as a sliding window that is full. It is looked for by halving:
where the steps at the low end do not lead exactly to those at the high end, steps in the middle are recorded, down to a
short run that is recorded whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vramcast.errors import RecordingError
from vramcast.record.decode_fit import REPETITIONS, disagreement, fit_segment, literal_segment, predicts, why_no_fit
from vramcast.timeline.decode import DecodeSegment, StepTemplate

PERIODS = (1, 16)
"""Steps after which the events repeat: 1, or 16 where a kernel pads a row of the mask to a multiple of 8 or 16
elements."""
LITERAL_RUN = 16
"""A gap of so many steps is recorded whole instead of being halved further, and ..."""
MAX_LITERAL_STEPS = 160
"""... so many in all may be: more means that the steps do not repeat with this period."""

Probe = Callable[[int, int], Sequence[StepTemplate]]
"""Records the decode steps from one number to another, both included."""


class _DoNotRepeat(Exception):
    """The steps do not repeat with the period that was tried."""


@dataclass(frozen=True, slots=True)
class RecordedSteps:
    """Consecutive recorded steps."""

    first_step: int
    steps: tuple[StepTemplate, ...]

    @property
    def last_step(self) -> int:
        """Number of the last of them."""
        return self.first_step + len(self.steps) - 1


def settle_segments(
    low: RecordedSteps, high: RecordedSteps, probe: Probe, *, turning_points: Sequence[int] = ()
) -> tuple[DecodeSegment, ...]:
    """Segments for all steps from the first of `low` to the last of `high`.

    Args:
        low: at least `REPETITIONS` recorded steps.
        high: recorded steps at the far end; the segments reproduce them exactly.
        probe: records further steps.
        turning_points: step numbers near which a regime is expected to end, tried before halving.

    Raises:
        RecordingError: the steps follow no rule known here; the message names the first event that breaks it.
    """
    if high.first_step <= low.last_step:
        steps = probe(low.first_step, high.last_step)
        return tuple(literal_segment(step, number=low.first_step + i) for i, step in enumerate(steps))
    for period in PERIODS:
        try:
            return _Settling(probe, period, turning_points).settle(low, high)
        except _DoNotRepeat:
            continue
    raise RecordingError(f"the decode steps of this model do not repeat: {_reason(low, high)}")


def _reason(low: RecordedSteps, high: RecordedSteps) -> str:
    fit = fit_segment(low.steps[:REPETITIONS], first_step=low.first_step, period=1)
    if fit is not None:
        return disagreement(fit, high.steps, first_step=high.first_step) or "steps between the recorded ones differ"
    return why_no_fit(low.steps[:REPETITIONS], first_step=low.first_step)


@dataclass(slots=True)
class _Settling:
    probe: Probe
    period: int
    turning_points: Sequence[int]
    literal_steps: int = field(default=0)

    @property
    def window(self) -> int:
        return REPETITIONS * self.period

    def settle(self, low: RecordedSteps, high: RecordedSteps) -> tuple[DecodeSegment, ...]:
        if len(low.steps) < self.window and low.first_step + self.window <= high.first_step:
            low = self._record(low.first_step)
        segments = self._cover(low, high)
        last = segments[-1]
        if last.last_step - last.first_step >= self.window and predicts(last, high.steps, first_step=high.first_step):
            segments[-1] = replace(last, last_step=high.last_step)
        else:
            segments += [literal_segment(step, number=high.first_step + i) for i, step in enumerate(high.steps)]
        return tuple(segments)

    def _cover(self, low: RecordedSteps, high: RecordedSteps) -> list[DecodeSegment]:
        """Segments from the first step of `low` to the one before `high`."""
        if len(low.steps) >= self.window:
            fit = fit_segment(low.steps, first_step=low.first_step, period=self.period)
            if fit is not None and predicts(fit, high.steps, first_step=high.first_step):
                return [replace(fit, last_step=high.first_step - 1)]
        if high.first_step - low.first_step <= max(LITERAL_RUN, self.window):
            return self._literal(low.first_step, high.first_step - 1)
        middle = self._record(self._middle(low.first_step, high.first_step))
        return self._cover(low, middle) + self._cover(middle, high)

    def _middle(self, low: int, high: int) -> int:
        margin = LITERAL_RUN // 2
        for point in self.turning_points:
            for candidate in (point - margin + 1, point + 1):
                if low + margin < candidate < high - 1:
                    return candidate
        return (low + high) // 2

    def _record(self, first_step: int) -> RecordedSteps:
        return RecordedSteps(first_step, tuple(self.probe(first_step, first_step + self.window - 1)))

    def _literal(self, first_step: int, last_step: int) -> list[DecodeSegment]:
        self.literal_steps += last_step - first_step + 1
        if self.literal_steps > MAX_LITERAL_STEPS:
            raise _DoNotRepeat
        steps = self.probe(first_step, last_step)
        return [literal_segment(step, number=first_step + i) for i, step in enumerate(steps)]
