"""Are the shipped tapes those of this code? Compares archives with the plan, and recordings made now with what was shipped."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vramcast.record.tape_library_plan import PlannedTape
from vramcast.record.tape_library_recording import WorkFolder, record_tapes
from vramcast.tapes import Tape, TapeError
from vramcast.tapes.archive import Archive, content_bytes
from vramcast.tapes.key import settings_digest


@dataclass(frozen=True)
class LibraryState:
    """What a library has of a plan."""

    shipped: list[PlannedTape]
    """Every shipped tape, with the questions that it answers and those before it in its archive do not."""
    failures: list[str]
    """What the plan has and the library has not, or the other way round, in words."""


def compare_with_plan(plan: Sequence[PlannedTape], library: Path) -> LibraryState:
    """Read every tape of the plan's archives and ask it the plan's questions."""
    state = LibraryState([], [])
    for name in dict.fromkeys(planned.archive for planned in plan):
        of_archive = [planned for planned in plan if planned.archive == name]
        try:
            _compare_archive(of_archive, Archive(library / name), state)
        except TapeError as error:
            state.failures.append(str(error))
    return state


def _compare_archive(plan: Sequence[PlannedTape], archive: Archive, state: LibraryState) -> None:
    extra = set(archive.settings()) - {settings_digest(planned.key) for planned in plan}
    if extra:
        state.failures.append(f"{archive.name}: {len(extra)} settings that are not planned")
    for planned in plan:
        left, variant = planned.questions, 0
        for tape in archive.tapes(settings_digest(planned.key)):
            answered = [question for question in left if question.why_not(tape) is None]
            if answered:
                state.shipped.append(replace(planned, questions=answered, variant=variant))
                left, variant = [question for question in left if question not in answered], variant + 1
        state.failures.extend(f"{archive.name}: no tape answers {question}" for question in left)


def drawn(shipped: Sequence[PlannedTape], count: int, seed: int) -> list[PlannedTape]:
    """So many at random, in the library's order."""
    chosen = random.Random(seed).sample(range(len(shipped)), min(count, len(shipped)))
    return [shipped[number] for number in sorted(chosen)]


def differing(
    shipped: Sequence[PlannedTape], library: Path, work_folder: Path, processes: int
) -> Iterator[tuple[PlannedTape, str | None]]:
    """Record each of these tapes now, in an empty work folder; with each how it differs from what ships, None if by no byte."""
    work = WorkFolder(work_folder)
    for outcome in record_tapes(shipped, work, processes):
        tape = work.tape(outcome.planned)
        if outcome.error is not None or tape is None:
            yield outcome.planned, f"it cannot be recorded now: {outcome.error}"
        else:
            yield outcome.planned, _difference(tape, outcome.planned, Archive(library / outcome.planned.archive))


def _difference(tape: Tape, planned: PlannedTape, archive: Archive) -> str | None:
    try:
        shipped = [archive.content(entry) for entry in archive.entries(settings_digest(planned.key))]
    except TapeError as error:
        return str(error)
    return None if content_bytes(tape) in shipped else "what is recorded now is not what ships"
