"""One tape from two: the model's forward and backward from one, the optimizer's step from another.

What an optimizer allocates depends on the parameters and their dtype, not on attention, checkpointing or the batch; what a model
allocates does not depend on the optimizer. So both are recorded on their own, and any pair makes a job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from vramcast.tapes.expressions import TapeError
from vramcast.tapes.tape import AllocRow, FreeRow, Program, Row, Section, Segment, Tape

OPTIMIZER_MARK = "after_optimizer"
"""Mark that ends the section of an optimizer's step."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both tapes as a key of the cache, by identity: comparing rows would cost more than composing them."""

    model: Tape
    optimizer: Tape

    def __hash__(self) -> int:
        return hash((id(self.model), id(self.optimizer)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pair) and self.model is other.model and self.optimizer is other.optimizer


def composed(model: Tape, optimizer: Tape) -> Tape:
    """The tape of a model trained by an optimizer.

    Raises:
        TapeError: something of the one lives on in the other.
    """
    return _composed(_Pair(model, optimizer))


@lru_cache(maxsize=256)
def _composed(pair: _Pair) -> Tape:
    model, optimizer = pair.model, pair.optimizer
    check_separable(model)
    check_separable(optimizer)
    moved = _mover(len(model.sizes), len(model.labels))
    first = len(model.sections)
    numbers = _optimizer_sections(optimizer)
    sections = (
        *model.sections,
        moved(optimizer.sections[optimizer.program.load]),
        *(moved(optimizer.sections[number]) for number in numbers),
    )
    return replace(
        model,
        key={
            **model.key,
            **{name: value for name, value in optimizer.key.items() if name != "part"},
            "part": "training",
        },
        sizes=(*model.sizes, *optimizer.sizes),
        labels=(*model.labels, *optimizer.labels),
        sections=sections,
        program=_with_optimizer(model, first),
        guards=tuple(dict.fromkeys((*model.guards, *optimizer.guards))),
        min_layers=max(model.min_layers, optimizer.min_layers),
        max_layers=min((most for most in (model.max_layers, optimizer.max_layers) if most is not None), default=None),
        certified=(),
        assumptions=tuple(dict.fromkeys((*model.assumptions, *optimizer.assumptions))),
    )


def check_separable(tape: Tape) -> None:
    """An optimizer's step must free only what it made, and nothing else may free anything of it or of the loading.

    Raises:
        TapeError: it is not so.
    """
    for section in tape.sections:
        for row in (row for segment in section.segments for row in segment.rows):
            if isinstance(row, FreeRow) and (
                row.section == "load" or (section.mark == OPTIMIZER_MARK and row.section != "own")
            ):
                raise TapeError(f"{section.mark}: something lives from one part of the step into another")


def _optimizer_sections(tape: Tape) -> tuple[int, int]:
    """The optimizer's step at first and later."""
    first, later = (
        next(number for number in step if tape.sections[number].mark == OPTIMIZER_MARK)
        for step in (tape.program.first, tape.program.steady)
    )
    return first, later


def _with_optimizer(model: Tape, added: int) -> Program:
    """The model's program with the added sections: loading, the first step and later ones of the optimizer."""
    program = model.program

    def swapped(step: tuple[int, ...], number: int) -> tuple[int, ...]:
        return tuple(number if model.sections[own].mark == OPTIMIZER_MARK else own for own in step)

    # The optimizer's loading is the model's, and the states that some optimizers make at once.
    return replace(
        program, load=added, first=swapped(program.first, added + 1), steady=swapped(program.steady, added + 2)
    )


def _mover(sizes: int, labels: int) -> Callable[[Section], Section]:
    def row(row: Row) -> Row:
        if isinstance(row, AllocRow):
            return AllocRow(row.size + sizes, row.label + labels, row.layer)
        return row

    def section(section: Section) -> Section:
        segments = tuple(
            Segment(segment.repetitions, tuple(row(each) for each in segment.rows)) for segment in section.segments
        )
        return replace(section, segments=segments)

    return section


def as_other_half(tape: Tape) -> Tape:
    """A tape of bfloat16 for float16: kernels of both take the same memory, and only names differ.

    An attention decision is checked anew for the other dtype when the tape is used.
    """

    def renamed(dtype: str) -> str:
        return {"bfloat16": "float16", "bf16": "fp16"}.get(dtype, dtype)

    attention = tuple(
        replace(
            guard, choice=replace(guard.choice, call=replace(guard.choice.call, dtype=renamed(guard.choice.call.dtype)))
        )
        for guard in tape.attention
    )
    sections = tuple(
        replace(
            section,
            operators=tuple(replace(operator, dtype=renamed(operator.dtype)) for operator in section.operators),
        )
        for section in tape.sections
    )
    key = {name: renamed(value) if isinstance(value, str) else value for name, value in tape.key.items()}
    labels = tuple(label._replace(dtype=renamed(label.dtype)) for label in tape.labels)
    return replace(tape, key=key, labels=labels, sections=sections, attention=attention)


__all__ = ["OPTIMIZER_MARK", "TapeError", "as_other_half", "check_separable", "composed"]
