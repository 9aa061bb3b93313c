"""From a few short runs of a generation to all of its steps, whatever loop makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from vramcast.kernels import AttentionChoice
from vramcast.record.decode_settling import RecordedSteps, settle_segments
from vramcast.timeline import EventKind, OperatorTable, Timeline
from vramcast.timeline.cutting import CutTimeline, cut_steps
from vramcast.timeline.decode import DecodeExtension, StepTemplate

WARM_UP_STEPS = 2
"""The first step meets what the prefill left behind, the second what the first did; from the third on steps repeat."""
WINDOW = 3
DIRECT_STEPS = WARM_UP_STEPS + 3 * WINDOW
"""Generations of up to so many decode steps are recorded step by step."""


@dataclass(slots=True)
class GenerationRun:
    """What one run left: plain data."""

    timeline: Timeline
    first_allocation: int
    """Index of the first allocation after loading."""
    boundaries: list[int]
    """Number of events at the end of the prefill's forward pass and of each decode step's."""
    flops: list[int]
    """FLOPs so far at each boundary."""
    parameters: int = 0
    kernels: dict[str, int] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    sliding_windows: tuple[int, ...] = ()
    operators: dict[str, OperatorTable] = field(default_factory=dict)
    """`prefill`, `first_decode_step` and `last_decode_step` of this run."""
    section_operators: list[OperatorTable] = field(default_factory=list)
    """Of the prefill and of each decode step."""
    attention_choices: list[AttentionChoice] = field(default_factory=list)

    def cut(self) -> CutTimeline:
        """The steps; the last one is the tail, where the run went to its end."""
        boundaries = self.boundaries
        if boundaries[-1] < len(self.timeline.events):
            boundaries = [*boundaries, len(self.timeline.events)]
        return cut_steps(self.timeline, boundaries, first_allocation=self.first_allocation)

    def head(self, num_steps: int) -> Timeline:
        """The timeline up to the end of a decode step."""
        events = self.timeline.events[: self.boundaries[num_steps]]
        allocations = sum(event.kind is EventKind.ALLOC for event in events)
        marks = sum(event.kind is EventKind.MARK for event in events)
        return Timeline(self.timeline.allocations[:allocations], events, self.timeline.marks[:marks])


class RunOfLength(Protocol):
    """Runs a generation of the given lengths, or its prefill and the first `stop_after` decode steps."""

    def __call__(self, prompt_length: int, max_new_tokens: int, stop_after: int | None = None) -> GenerationRun:
        """See the class."""


@dataclass(frozen=True, slots=True)
class UnrolledGeneration:
    """A whole generation from short runs."""

    timeline: Timeline
    decode: DecodeExtension | None
    """What follows the end of `timeline`; None where it is the whole."""
    beginning: GenerationRun
    ending: GenerationRun
    """The last steps, at their true sizes."""


def unroll_generation(run: RunOfLength, prompt_length: int, max_new_tokens: int) -> UnrolledGeneration:
    """Record the beginning and the end of a generation, and what else it takes to know all steps.

    Steps far into the generation are recorded with a longer prompt and as many tokens fewer: from its third step on
    such a run is the same as the whole one at that place. The templates reproduce the last steps of the generation
    exactly.

    Raises:
        RecordingError: the decode steps follow no rule known here; the message names the event.
    """
    decode_steps = max_new_tokens - 1
    if decode_steps <= DIRECT_STEPS:
        whole = run(prompt_length, max_new_tokens)
        return UnrolledGeneration(whole.timeline, None, whole, whole)

    def later(steps: int, stop_after: int | None = None) -> GenerationRun:
        return run(prompt_length + steps, max_new_tokens - steps, stop_after)

    def probe(first_step: int, last_step: int) -> tuple[StepTemplate, ...]:
        probed = later(first_step - WARM_UP_STEPS - 1, WARM_UP_STEPS + last_step - first_step + 1)
        return probed.cut().steps[WARM_UP_STEPS:]

    beginning = later(0, WARM_UP_STEPS + WINDOW)
    ending = later(decode_steps - WARM_UP_STEPS - WINDOW)
    first = beginning.cut()
    *last_steps, tail = ending.cut().steps[WARM_UP_STEPS:]
    segments = settle_segments(
        RecordedSteps(WARM_UP_STEPS + 1, first.steps[WARM_UP_STEPS:]),
        RecordedSteps(decode_steps - WINDOW + 1, tuple(last_steps)),
        probe,
        turning_points=[window - prompt_length for window in beginning.sliding_windows],
    )
    decode = DecodeExtension(first.states[WARM_UP_STEPS], segments, tail)
    return UnrolledGeneration(beginning.head(WARM_UP_STEPS), decode, beginning, ending)
