"""Names for the sections of a tape, as a person calls them: `load`, `first forward`, `later backward 2`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from vramcast.tapes.tape import Tape
from vramcast.tapes.unrolling import section_order

SECTION_NAMES = {
    "after_load": "load",
    "after_forward": "forward",
    "after_backward": "backward",
    "after_optimizer": "optimizer",
    "after_step": "zero_grad",
}
"""Mark that ends a section -> what happens in it; other sections go by their mark."""


class Passed(NamedTuple):
    """A section where it is passed in the job."""

    section: int
    step: int
    """0 while loading, then 1, 2, 3."""
    kind: str
    number: int
    """Which of its kind in the step, from 1; 0 where it is the only one."""

    @property
    def word(self) -> str:
        """`forward`; with gradient accumulation `forward 2`."""
        return f"{self.kind} {self.number}" if self.number else self.kind


def passed_sections(tape: Tape, micro_batches: int) -> list[Passed]:
    """Every section in the order of the job: loading and three optimizer steps."""
    order, starts = section_order(tape.program, micro_batches)
    step_of = {start: step for step, start in enumerate(sorted({*starts, 0}))}
    kinds = [SECTION_NAMES.get(tape.sections[number].mark, tape.sections[number].mark) for number in order]
    in_step = Counter(zip(starts, kinds, strict=True))
    seen: Counter[tuple[int, str]] = Counter()
    passed = []
    for section, start, kind in zip(order, starts, kinds, strict=True):
        seen[start, kind] += 1
        several = in_step[start, kind] > 1
        passed.append(Passed(section, step_of[start], kind, seen[start, kind] if several else 0))
    return passed


def section_name(passings: Iterable[Passed]) -> str:
    """What to call a section that is passed at these places: `forward`, `first forward`, `later backward 3 to 8`."""
    places = list(passings)
    steps, numbers = {place.step for place in places}, {place.number for place in places}
    kind, low, high = places[0].kind, min(numbers), max(numbers)
    words = kind if not high else f"{kind} {low}" if low == high else f"{kind} {low} to {high}"
    if steps == {1}:
        return f"first {words}"
    return words if steps & {0, 1} else f"later {words}"
