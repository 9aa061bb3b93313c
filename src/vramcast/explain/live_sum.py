"""One live set of a tape as a sum: how many tensors of which size, with letters and with numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from vramcast.explain.tree import LAYER
from vramcast.tapes.binding import BLOCK, complete_values, size_values
from vramcast.tapes.lifetimes import Lifetime, RowPlace, lifetimes
from vramcast.tapes.peak import LiveSets
from vramcast.tapes.size_text import letters_of, numbers_text, size_text
from vramcast.tapes.tape import Label, Size
from vramcast.tapes.unrolling import NO_LAYER, Ints, UnrolledTape, unroll

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Holder(BaseModel):
    """What some tensors of a term are."""

    model_config = _FROZEN

    category: str
    module: str
    """Numbers of layers written `*`."""
    op: str
    tensors: int


class Term(BaseModel):
    """All tensors of one size."""

    model_config = _FROZEN

    count: int
    per_layer: int
    """So many of them in every layer; `count = per_layer x layers + outside`."""
    outside: int
    size: str
    """Bytes of one, as a formula."""
    numbers: str
    """The formula with the numbers put in; empty where it has no letters."""
    each_bytes: int
    """Of one block: the size rounded up to a multiple of 512."""
    bytes: int
    holders: tuple[Holder, ...]
    """What the tensors are, the most numerous first."""


class LiveSum(BaseModel):
    """Everything alive at one instant."""

    model_config = _FROZEN

    bytes: int
    """Sum of the terms."""
    step: int
    """Optimizer step of the instant, counted from 1; 0 while the model is loaded."""
    phase: str
    module: str
    """Module whose tensor was made last, the number of its layer included."""
    op: str
    """Operator that made it."""
    terms: tuple[Term, ...]
    """Largest first."""


class Instant(NamedTuple):
    """The event after which a live set is alive, its layer left out: two instants that differ in their layer are alike."""

    step: int
    phase: str
    module: str
    op: str


class LiveSetReader:
    """Reads what lives in the live sets of a job."""

    def __init__(self, sets: LiveSets, micro_batches: int) -> None:
        self.sets = sets
        # The live sets were found among as many micro batches as differ from each other.
        self._micro_batches = min(micro_batches, 3)
        self._unrolled: UnrolledTape = unroll(sets.tape, sets.layers, self._micro_batches)

    def instant(self, number: int) -> Instant:
        """When live set `number` is alive."""
        position = int(self.sets.positions[number])
        label = self._label(self._youngest(position))
        steps = sum(1 for before, name in self._unrolled.marks if name == "after_step" and before <= position)
        loaded = any(name == "after_load" and before <= position for before, name in self._unrolled.marks)
        return Instant(steps + loaded, label.phase, label.module, label.op)

    def read(self, number: int, values: Mapping[str, int]) -> LiveSum:
        """Live set `number` at these dimensions."""
        position = int(self.sets.positions[number])
        instant = self.instant(number)
        terms = self._terms(self._alive(position), values)
        layer = int(self._unrolled.layer[self._youngest(position)])
        module = instant.module if layer == NO_LAYER else instant.module.replace(LAYER, str(layer))
        return LiveSum(
            bytes=sum(term.bytes for term in terms),
            step=instant.step,
            phase=instant.phase,
            module=module,
            op=instant.op,
            terms=tuple(sorted(terms, key=lambda term: (-term.bytes, term.size))),
        )

    def letters(self, number: int) -> set[str]:
        """The letters that the sizes of a live set are written with."""
        sizes = self._unrolled.size[self._alive(int(self.sets.positions[number]))]
        return {letter for size in np.unique(sizes) for letter in letters_of(self.sets.tape.sizes[int(size)])}

    def _terms(self, alive: Ints, values: Mapping[str, int]) -> list[Term]:
        tape = self.sets.tape
        bytes_of = size_values(tape.sizes, complete_values(tape, values))
        same: dict[str, list[int]] = {}
        for allocation in alive.tolist():
            size = tape.sizes[self._unrolled.size[allocation]]
            same.setdefault(size_text(size), []).append(allocation)
        terms = []
        for text, allocations in same.items():
            index = int(self._unrolled.size[allocations[0]])
            if bytes_of[index]:
                terms.append(self._term(text, tape.sizes[index], int(bytes_of[index]), allocations, values))
        return terms

    def _term(self, text: str, size: Size, nbytes: int, allocations: list[int], values: Mapping[str, int]) -> Term:
        block, count = -(-nbytes // BLOCK) * BLOCK, len(allocations)
        per_layer = self._in_every_layer(allocations)
        holders = Counter((label.category, label.module, label.op) for label in map(self._label, allocations))
        return Term(
            count=count,
            per_layer=per_layer,
            outside=count - per_layer * self.sets.layers,
            size=text,
            numbers=numbers_text(size, values),
            each_bytes=block,
            bytes=count * block,
            holders=tuple(
                Holder(category=category, module=module, op=op, tensors=tensors)
                for (category, module, op), tensors in holders.most_common()
            ),
        )

    def _in_every_layer(self, allocations: list[int]) -> int:
        """How many tensors each layer has at least."""
        layers: dict[int, Counter[int]] = defaultdict(Counter)
        turns: dict[RowPlace, int] = defaultdict(int)
        for each in allocations:
            layer = int(self._unrolled.layer[each])
            birth = self._lifetimes[each].birth
            if layer != NO_LAYER:
                layers[int(self._unrolled.label[each])][layer] += 1
            elif self.sets.tape.sections[birth.section].segments[birth.segment].repetitions is not None:
                turns[birth._replace(repetition=0)] += 1
        labelled = sum(min(counts[layer] for layer in range(self.sets.layers)) for counts in layers.values())
        # Parameters and what belongs to them bear no layer; they are made in a loop with a turn for each.
        repetitions = self.sets.tape.repetitions(self.sets.layers)
        in_all_turns = sum(1 for count in turns.values() if count == repetitions)
        return labelled + in_all_turns // self.sets.tape.layers_per_repetition

    @cached_property
    def _lifetimes(self) -> list[Lifetime]:
        return lifetimes(self.sets.tape, self.sets.layers, self._micro_batches)

    def _alive(self, position: int) -> Ints:
        events = self._unrolled.events[: position + 1]
        living = np.zeros(len(self._unrolled.size), dtype=bool)
        living[events[events >= 0]] = True
        living[~events[events < 0]] = False
        found: Ints = np.flatnonzero(living)
        return found

    def _youngest(self, position: int) -> int:
        events = self._unrolled.events[: position + 1]
        return int(events[events >= 0][-1])

    def _label(self, allocation: int) -> Label:
        return self.sets.tape.labels[int(self._unrolled.label[allocation])]
