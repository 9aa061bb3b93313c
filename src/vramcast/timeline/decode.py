"""The decode steps of a generation that were not recorded one by one, as a few templates that unroll to exact events.

A step of decoding repeats the events of the step before; only sizes change, affinely in the step number. A
`StepTemplate` holds one step, a `DecodeSegment` the run of steps it stands for. Where a kernel pads to a multiple (16
mask columns, say) neighbouring steps differ, but steps a whole padding apart do not: a segment then holds one template
for each step of that period.

A step names what it frees by place, not by index: one of its own allocations (0, 1, ... in order of birth), or one of
the `state`, the allocations alive at its begin and born after loading, in order of birth (-1 the first, -2 the second,
...). This is what makes two steps comparable. Plain data; no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vramcast.timeline.events import Allocation, Event, EventKind, Timeline

AFTER_DECODE = "after_decode"
"""Mark at the end of the last forward pass of a generation."""


@dataclass(frozen=True, slots=True)
class GrowingAllocation:
    """An allocation that changes by the same amount from one step of its template to the next."""

    first: Allocation
    growth_bytes: int = 0
    shape_growth: tuple[int, ...] = ()

    def at(self, repetition: int) -> Allocation:
        """The allocation `repetition` uses of its template after the first."""
        if not self.growth_bytes and not any(self.shape_growth):
            return replace(self.first)
        shape = tuple(
            size + repetition * growth for size, growth in zip(self.first.shape, self.shape_growth, strict=True)
        )
        return replace(self.first, nbytes=self.first.nbytes + repetition * self.growth_bytes, shape=shape)


@dataclass(frozen=True, slots=True)
class StepTemplate:
    """Events of one step, its allocations, and what is alive when it ends."""

    events: tuple[Event, ...]
    """ALLOC, FREE and USE_STREAM carry a place (see the module) as `target`; marks are left out."""
    allocations: tuple[GrowingAllocation, ...]
    survivors: tuple[int, ...]
    """Places of the next step's state, in order of birth."""

    @property
    def grows(self) -> bool:
        """Whether any size changes from step to step."""
        return any(allocation.growth_bytes for allocation in self.allocations)

    def sizes(self, repetition: int) -> list[int]:
        """Bytes of each allocation."""
        return [allocation.first.nbytes + repetition * allocation.growth_bytes for allocation in self.allocations]


@dataclass(frozen=True, slots=True)
class DecodeSegment:
    """Steps `first_step` to `last_step`, both included, which take the templates in turn."""

    first_step: int
    last_step: int
    templates: tuple[StepTemplate, ...]

    def template_of(self, step: int) -> tuple[StepTemplate, int]:
        """The template of a step, and how often it was used before."""
        repetition, turn = divmod(step - self.first_step, len(self.templates))
        return self.templates[turn], repetition


@dataclass(frozen=True, slots=True)
class DecodeExtension:
    """Every step that follows the recorded part of a generation, and what is left to do after the last."""

    state: tuple[int, ...]
    """Indices of the recorded allocations that are alive at the end of the recorded part and were born after
    loading."""
    segments: tuple[DecodeSegment, ...]
    tail: StepTemplate
    """Choosing the last token and giving the cache back."""

    @property
    def num_steps(self) -> int:
        """Decode steps that the segments stand for."""
        return sum(segment.last_step - segment.first_step + 1 for segment in self.segments)

    @property
    def num_events(self) -> int:
        """Events of all those steps and of the tail, marks left out."""
        total = len(self.tail.events)
        for segment in self.segments:
            rounds, rest = divmod(segment.last_step - segment.first_step + 1, len(segment.templates))
            total += rounds * sum(len(template.events) for template in segment.templates)
            total += sum(len(template.events) for template in segment.templates[:rest])
        return total

    def steps(self) -> Iterator[tuple[int, StepTemplate, int]]:
        """(step number, template, repetition) of every step in order."""
        for segment in self.segments:
            for step in range(segment.first_step, segment.last_step + 1):
                yield step, *segment.template_of(step)


def extended_timeline(recorded: Timeline, extension: DecodeExtension) -> Timeline:
    """Every event of the generation in one timeline: for short generations, some 100 bytes an event."""
    timeline = Timeline(list(recorded.allocations), list(recorded.events), list(recorded.marks))
    state = extension.state
    for _, template, repetition in extension.steps():
        state = append_step(timeline, state, template, repetition)
    timeline.mark(AFTER_DECODE)
    append_step(timeline, state, extension.tail, 0)
    return timeline


def append_step(timeline: Timeline, state: Sequence[int], template: StepTemplate, repetition: int) -> tuple[int, ...]:
    """Write one step into a timeline; returns the state it leaves, as indices of allocations."""
    base = len(timeline.allocations)
    timeline.allocations += [allocation.at(repetition) for allocation in template.allocations]
    for kind, place, value in template.events:
        if kind in (EventKind.ALLOC, EventKind.FREE, EventKind.USE_STREAM):
            place = base + place if place >= 0 else state[~place]
        timeline.events.append(Event(kind, place, value))
    return tuple(base + place if place >= 0 else state[~place] for place in template.survivors)
