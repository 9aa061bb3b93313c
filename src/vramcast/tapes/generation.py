"""A generation tape with numbers put in: the recorded head, then one template for every further decode step.

Sections of the tape: loading, the prefill, two decode steps that still meet what came before them, one that stands for all the
others, and what follows the last. In a decode step `S` is the number of tokens in the cache after it. Where a buffer is
rounded up to a multiple of `S`, steps so many apart repeat, and there is a template for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vramcast.tapes.binding import complete_values, size_values, table_at
from vramcast.tapes.expressions import Expression, product
from vramcast.tapes.tape import Tape
from vramcast.tapes.unrolling import NO_LAYER, UnrolledTape, joined
from vramcast.timeline import Allocation, DecodeExtension, Event, EventKind, OperatorTable, Recording, Timeline
from vramcast.timeline.cutting import cut_steps
from vramcast.timeline.decode import DecodeSegment, GrowingAllocation, StepTemplate

WARM_UP_STEPS = 2
"""Decode steps before the one that stands for all others."""
TEMPLATE_STEP = WARM_UP_STEPS + 1
FEWEST_TOKENS = TEMPLATE_STEP + 1
"""New tokens from which a generation reaches the template."""
_ROUNDED = re.compile(r"up(\d+)\(S[+-]?\d*\)")


@dataclass(frozen=True, eq=False)
class BoundGeneration:
    """A generation tape at given dimensions: `B`, `T`, `N`, `U` and `m` besides those of the model."""

    tape: Tape
    values: Mapping[str, int]

    @property
    def decode_steps(self) -> int:
        """Forward passes after the prefill: the last token is chosen but never read."""
        return self.values["N"] - 1

    def recording(self) -> Recording:
        """The same answers as a recording at these dimensions."""
        operators = self.operators()
        return Recording(
            timeline=self._head(),
            parameters=self.parameters,
            flops_per_step=operators["last_decode_step"].flops,
            kernels=self.kernels(),
            attention_choices=[],
            assumptions=list(self.tape.assumptions),
            versions=self.tape.versions,
            operators=operators,
            decode=self._decode(),
        )

    @property
    def last_values(self) -> dict[str, int]:
        """Letters at the last decode step."""
        return self._values(self.decode_steps)

    @property
    def largest_bytes(self) -> int:
        """The largest size of all."""
        return max(int(size) for size in size_values(self.tape.sizes, self._values(self.decode_steps)))

    @cached_property
    def parameters(self) -> int:
        """Elements of all parameters, tied ones counted once."""
        values = self._values(0)
        load = range(self._unrolled.first_allocations[1])
        labels = (self.tape.labels[self._unrolled.label[index]] for index in load)
        return sum(int(product(label.shape).value(values)) for label in labels if label.category == "parameters")

    def kernels(self) -> dict[str, int]:
        """Calls of each kernel in the recorded steps."""
        repetitions = self.tape.repetitions(self.values["L"])
        return {name: constant + slope * repetitions for name, (constant, slope) in self.tape.kernels.items()}

    def operators(self) -> dict[str, OperatorTable]:
        """What the prefill and the first and last decode step compute."""
        program, repetitions = self.tape.program, self.tape.repetitions(self.values["L"])
        sections = {
            "prefill": (program.first[0], 0),
            "first_decode_step": (program.first[1], 1),
            "last_decode_step": (program.steady[0], self.decode_steps),
        }
        return {
            name: table_at(self.tape.sections[number], {**self._values(step), "p": self.parameters}, repetitions)
            for name, (number, step) in sections.items()
        }

    def _values(self, step: int) -> dict[str, int]:
        values = self.values
        last = values["T"] + values["N"] - 1
        return complete_values(self.tape, {**values, "S": values["T"] + step, "A": last})

    @cached_property
    def period(self) -> int:
        """Decode steps after which rounded buffers come back."""
        multiples = [1]
        for size in self.tape.sizes:
            formulas = [size] if isinstance(size, Expression) else [e for _, each in size.arguments for e in each]
            multiples += [int(found[1]) for e in formulas for atom in e.atoms if (found := _ROUNDED.fullmatch(atom))]
        return max(multiples)

    @cached_property
    def _order(self) -> list[int]:
        """Head, one template step for each of the period and the first of the next, tail."""
        program = self.tape.program
        assert program.tail is not None
        steps = list(program.steady) * (self.period + 1)
        return [program.load, *program.first, *steps, program.tail]

    @cached_property
    def _unrolled(self) -> UnrolledTape:
        order = self._order
        return joined(self.tape, order, [0] * len(order), self.tape.repetitions(self.values["L"]))

    @cached_property
    def _whole(self) -> Timeline:
        """Head, template steps and tail, as if the generation ended there; the tail's sizes are those of the true end."""
        return _written(self.tape, self._unrolled, [self._values(step) for step in self._steps])

    @cached_property
    def _steps(self) -> list[int]:
        """Decode step of each section."""
        after_load = range(len(self._order) - 2)
        return [0, *after_load, self.decode_steps]

    @cached_property
    def _boundaries(self) -> list[int]:
        """Number of events at the end of the prefill's forward pass, of each decode step's, and of the whole."""
        return [position + 1 for _, position in self._whole.mark_positions()][1:]

    def _head(self) -> Timeline:
        events = self._whole.events[: self._boundaries[WARM_UP_STEPS]]
        allocations = sum(event.kind is EventKind.ALLOC for event in events)
        return Timeline(self._whole.allocations[:allocations], events, self._whole.marks[: WARM_UP_STEPS + 2])

    def _decode(self) -> DecodeExtension:
        first = sum(
            self._whole.events[position].kind is EventKind.ALLOC for position in range(self._boundaries_of_load())
        )
        cut = cut_steps(self._whole, self._boundaries, first_allocation=first)
        *steps, tail = cut.steps
        templates = tuple(
            self._growing(steps[WARM_UP_STEPS + turn], TEMPLATE_STEP + turn) for turn in range(self.period)
        )
        segment = DecodeSegment(TEMPLATE_STEP, self.decode_steps, templates)
        return DecodeExtension(cut.states[WARM_UP_STEPS], (segment,), tail)

    def _boundaries_of_load(self) -> int:
        return next(position for _, position in self._whole.mark_positions())

    def _growing(self, step: StepTemplate, number: int) -> StepTemplate:
        """The step with what each allocation grows by until the template's next use."""
        program = self.tape.program
        index = 1 + len(program.first) + number - TEMPLATE_STEP
        later = _section_allocations(self.tape, self._unrolled, index, self._values(number + self.period))
        grown = tuple(
            GrowingAllocation(
                allocation.first,
                after.nbytes - allocation.first.nbytes,
                tuple(b - a for a, b in zip(allocation.first.shape, after.shape, strict=True)),
            )
            for allocation, after in zip(step.allocations, (each for each in later if each.nbytes), strict=True)
        )
        return StepTemplate(step.events, grown, step.survivors)


def _section_allocations(
    tape: Tape, unrolled: UnrolledTape, number: int, values: Mapping[str, int]
) -> list[Allocation]:
    """The allocations of one section at these dimensions."""
    starts = (*unrolled.first_allocations, len(unrolled.size))
    sizes = size_values(tape.sizes, values)
    return [_allocation(tape, unrolled, index, sizes, values) for index in range(starts[number], starts[number + 1])]


def _allocation(
    tape: Tape, unrolled: UnrolledTape, index: int, sizes: list[Any], values: Mapping[str, int]
) -> Allocation:
    label, layer = tape.labels[unrolled.label[index]], int(unrolled.layer[index])
    return Allocation(
        nbytes=int(sizes[unrolled.size[index]]),
        stream=label.stream,
        category=label.category,
        phase=label.phase,
        module=label.module if layer == NO_LAYER else label.module.replace("*", str(layer)),
        op=label.op,
        dtype=label.dtype,
        shape=tuple(extent.value(values) for extent in label.shape),
    )


def _written(tape: Tape, unrolled: UnrolledTape, values: list[dict[str, int]]) -> Timeline:
    """The timeline of all sections, each at its own dimensions; allocations of no bytes are left out, as a recording has none."""
    timeline = Timeline()
    index: dict[int, int] = {}
    made = [
        allocation
        for number, at in enumerate(values)
        for allocation in _section_allocations(tape, unrolled, number, at)
    ]
    extra: dict[int, list[Any]] = {}
    for before, row in unrolled.others:
        extra.setdefault(before, []).append(row)
    for before, name in unrolled.marks:
        extra.setdefault(before, []).append(name)
    for position, event in enumerate([*unrolled.events.tolist(), None]):
        for what in extra.get(position, ()):
            if isinstance(what, str):
                timeline.mark(what)
            else:
                timeline.events.append(Event(EventKind(what.kind), 0, what.value))
        if event is None:
            break
        if event >= 0 and made[event].nbytes:
            index[event] = timeline.alloc(made[event])
        elif ~event in index:
            timeline.free(index[~event])
    return timeline


__all__ = ["FEWEST_TOKENS", "TEMPLATE_STEP", "WARM_UP_STEPS", "BoundGeneration"]
