"""Names for the sections of a tape, as a person calls them: `load`, `first forward`, `later backward 2`."""

from __future__ import annotations

from collections import Counter
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
    word: str
    """`forward`; with gradient accumulation `forward 2`, counted in the step."""

    @property
    def name(self) -> str:
        """With the step it belongs to; all steps after the first are alike."""
        return self.word if not self.step else f"{'first' if self.step == 1 else 'later'} {self.word}"


def passed_sections(tape: Tape, micro_batches: int) -> list[Passed]:
    """Every section in the order of the job: loading and three optimizer steps."""
    order, starts = section_order(tape.program, micro_batches)
    step_of = {start: step for step, start in enumerate(sorted({*starts, 0}))}
    words = [SECTION_NAMES.get(tape.sections[number].mark, tape.sections[number].mark) for number in order]
    in_step = Counter(zip(starts, words, strict=True))
    seen: Counter[tuple[int, str]] = Counter()
    passed = []
    for number, start, word in zip(order, starts, words, strict=True):
        seen[start, word] += 1
        several = in_step[start, word] > 1
        passed.append(Passed(number, step_of[start], f"{word} {seen[start, word]}" if several else word))
    return passed
