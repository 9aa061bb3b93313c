"""From recorded steps to templates: three steps that repeat settle a template, later recorded steps confirm it.

Nothing is fitted in the statistical sense: a template is accepted only where every event agrees and every size is
exactly affine.
"""

from collections.abc import Sequence
from dataclasses import replace

from vramcast.timeline import Allocation
from vramcast.timeline.decode import DecodeSegment, GrowingAllocation, StepTemplate

REPETITIONS = 3
"""Uses of a template that must agree before it stands for others: two give the growth, the third confirms it."""


def fit_segment(steps: Sequence[StepTemplate], *, first_step: int, period: int) -> DecodeSegment | None:
    """A segment that starts with the `REPETITIONS * period` consecutive recorded `steps`, or None where they do not
    repeat."""
    assert len(steps) >= REPETITIONS * period
    templates = []
    for turn in range(period):
        template = _fit_template(steps[turn : REPETITIONS * period : period])
        if template is None:
            return None
        templates.append(template)
    return DecodeSegment(first_step, first_step + REPETITIONS * period - 1, tuple(templates))


def predicts(segment: DecodeSegment, steps: Sequence[StepTemplate], *, first_step: int) -> bool:
    """Whether the segment, prolonged, gives exactly these recorded steps."""
    return disagreement(segment, steps, first_step=first_step) is None


def disagreement(segment: DecodeSegment, steps: Sequence[StepTemplate], *, first_step: int) -> str | None:
    """The first way in which recorded steps differ from the prolonged segment, in words; None if there is none."""
    for step, recorded in enumerate(steps, first_step):
        template, repetition = segment.template_of(step)
        found = _difference(template, repetition, recorded)
        if found is not None:
            return f"decode step {step}: {found}"
    return None


def literal_segment(step: StepTemplate, *, number: int) -> DecodeSegment:
    """A segment of the one recorded step."""
    return DecodeSegment(number, number, (step,))


def why_no_fit(steps: Sequence[StepTemplate], *, first_step: int) -> str:
    """What keeps consecutive recorded steps from being uses of one template, in words."""
    if not _same_structure(*steps[:2]):
        return f"decode step {first_step + 1}: another order of allocations and frees"
    segment = DecodeSegment(first_step, first_step, (_template_of_two(*steps[:2]),))
    return disagreement(segment, steps, first_step=first_step) or "sizes do not grow evenly"


def _fit_template(uses: Sequence[StepTemplate]) -> StepTemplate | None:
    if not _same_structure(*uses[:2]):
        return None
    template = _template_of_two(*uses[:2])
    fits = all(_difference(template, repetition, use) is None for repetition, use in enumerate(uses))
    return template if fits else None


def _template_of_two(first: StepTemplate, second: StepTemplate) -> StepTemplate:
    return replace(first, allocations=tuple(map(_growing, first.allocations, second.allocations)))


def _growing(first: GrowingAllocation, second: GrowingAllocation) -> GrowingAllocation:
    before, after = first.first, second.first
    shape_growth = tuple(new - old for old, new in zip(before.shape, after.shape, strict=False))
    return GrowingAllocation(before, after.nbytes - before.nbytes, shape_growth)


def _same_structure(one: StepTemplate, other: StepTemplate) -> bool:
    return one.events == other.events and one.survivors == other.survivors


def _difference(template: StepTemplate, repetition: int, recorded: StepTemplate) -> str | None:
    if not _same_structure(template, recorded):
        return "another order of allocations and frees"
    for growing, seen in zip(template.allocations, recorded.allocations, strict=True):
        expected, found = growing.at(repetition), seen.first
        if expected != found:
            return f"{_describe(found)} where the steps before lead to {expected.nbytes} bytes"
    return None


def _describe(allocation: Allocation) -> str:
    return f"{allocation.op} in {allocation.module or 'generate'} takes {allocation.nbytes} bytes"
