"""A tape with numbers put in: sizes in bytes, the list of events, what can be read off it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from vramcast.kernels import AttentionCall, NoBackendError, choose_backend, scratch_buffers
from vramcast.tapes.expressions import Expression, TapeError, product
from vramcast.tapes.outdated import missing_rule
from vramcast.tapes.tape import (
    RECORDED_MICRO_BATCHES,
    AttentionGuard,
    Label,
    ScratchSize,
    Section,
    Size,
    Tape,
    TapeOperator,
)
from vramcast.tapes.unrolling import NO_LAYER, Ints, UnrolledTape, steady_sections, unroll
from vramcast.timeline import Allocation, Event, EventKind, Operator, OperatorTable, Timeline

BLOCK = 512
"""The caching allocator hands out multiples of so many bytes."""

Capability = tuple[int, int]


def size_values(sizes: tuple[Size, ...], values: Mapping[str, Any]) -> list[Any]:
    """Bytes of every size of a tape: ints, or arrays where the values are arrays."""
    known: dict[Any, Any] = {}

    def of(size: Size) -> Any:
        if isinstance(size, Expression):
            return size.value(values)
        call = (size.rule, size.arguments)
        if call not in known:
            known[call] = scratch_buffers(size.rule, _arguments(size, values))
        return known[call][size.buffer]

    return [of(size) for size in sizes]


def _arguments(size: ScratchSize, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, expressions in size.arguments:
        numbers = tuple(expression.value(values) for expression in expressions)
        found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found


def why_not(tape: Tape, values: Mapping[str, int], capability: Capability) -> str | None:
    """The first condition of a tape that does not hold at these dimensions; None if it applies."""
    layers = values["L"]
    if layers < tape.min_layers or (tape.max_layers is not None and layers > tape.max_layers):
        return f"it was recorded for {tape.min_layers} layers and more"
    if (layers - tape.layers_left_over) % tape.layers_per_repetition:
        return f"{layers} layers leave another rest of the layer pattern"
    if tape.repetitions(layers) < tape.fewest_repetitions:
        return f"it takes {tape.fewest_repetitions} repetitions of the layer pattern and more"
    for guard in tape.guards:
        if not guard.holds(values):
            return f"it was recorded for {guard}"
    for attention in tape.attention:
        taken = backend_at(attention, values, capability)
        if taken != attention.choice.backend:
            return f"it was recorded for {attention.choice.backend} attention, and this takes {taken}"
    missing = missing_rule(tape)
    return None if missing is None else f"it was recorded before the buffers of {missing} were known; record it anew"


def backend_at(guard: AttentionGuard, values: Mapping[str, int], capability: Capability) -> str:
    """The attention backend at these dimensions on a GPU of this compute capability, or `none`."""
    choice = guard.choice
    try:
        call = attention_call(guard, values)
        return choose_backend(call, capability, choice.enabled, choice.prefer_cudnn).backend
    except NoBackendError:
        return "none"


def attention_call(guard: AttentionGuard, values: Mapping[str, int]) -> AttentionCall:
    """The call of attention at these dimensions."""
    sizes: dict[str, Any] = {name: expression.value(values) for name, expression in guard.sizes}
    return replace(guard.choice.call, **sizes)


@dataclass(frozen=True, eq=False)
class BoundTape:
    """A tape at given dimensions."""

    tape: Tape
    values: Mapping[str, int]
    """Letter -> number, `B` and `T` included, and of the GPU `U` (workspace) and `m` (multiprocessors)."""
    micro_batches: int = 1

    @cached_property
    def unrolled(self) -> UnrolledTape:
        """The events."""
        return unroll(self.tape, self.values["L"], self.micro_batches)

    @cached_property
    def size_bytes(self) -> list[int]:
        """Bytes of every entry of `Tape.sizes`."""
        return size_values(self.tape.sizes, complete_values(self.tape, self.values))

    @cached_property
    def allocation_bytes(self) -> list[int]:
        """Bytes of every allocation; 0 for a scratch buffer that is not taken at these sizes."""
        sizes: list[int] = np.array(self.size_bytes, dtype=np.int64)[self.unrolled.size].tolist()
        return sizes

    def live_bytes(self) -> Ints:
        """Live bytes after each event, every tensor rounded up to a block."""
        blocks = -(-np.array(self.size_bytes, dtype=np.int64) // BLOCK) * BLOCK
        which, sign = self.unrolled.changes()
        return np.cumsum(blocks[which] * sign)

    def peak_live_bytes(self) -> int:
        """Largest sum of live tensors, each rounded up to a block: never above the allocated peak.

        `torch.cuda.max_memory_allocated()` counts blocks, and a block of the large pool may be up to 1 MiB larger than its tensor.
        """
        return int(self.live_bytes().max(initial=0))

    @cached_property
    def parameters(self) -> int:
        """Elements of all parameters, tied ones counted once."""
        values = complete_values(self.tape, self.values)
        load = unrolled_until(self.unrolled, 0)
        counts = np.bincount(self.unrolled.label[:load], minlength=len(self.tape.labels)).tolist()
        return sum(
            count * int(product(label.shape).value(values))
            for label, count in zip(self.tape.labels, counts, strict=True)
            if count and label.category == "parameters"
        )

    def kernels(self) -> dict[str, int]:
        """Calls of each kernel in the recorded steps."""
        repetitions = self.tape.repetitions(self.values["L"])
        per_micro_batch = RECORDED_MICRO_BATCHES if self.tape.program.repeated is not None else 1
        return {
            name: (constant + slope * repetitions) * self.micro_batches // per_micro_batch
            for name, (constant, slope) in self.tape.kernels.items()
        }

    def operators(self) -> OperatorTable:
        """What one optimizer step after the first computes."""
        values = {**complete_values(self.tape, self.values), "p": self.parameters}
        repetitions = self.tape.repetitions(self.values["L"])
        order = steady_sections(self.tape.program, self.micro_batches)
        tables = {number: table_at(self.tape.sections[number], values, repetitions) for number in set(order)}
        return OperatorTable.of(operator for number in order for operator in tables[number])

    def label(self, allocation: int) -> Label:
        """What an allocation is for."""
        return self.tape.labels[int(self.unrolled.label[allocation])]

    def allocation(self, index: int) -> Allocation:
        """An allocation as a recording has it."""
        label = self.label(index)
        layer = int(self.unrolled.layer[index])
        values = complete_values(self.tape, self.values)
        return Allocation(
            nbytes=self.allocation_bytes[index],
            stream=label.stream,
            category=label.category,
            phase=label.phase,
            module=label.module if layer == NO_LAYER else label.module.replace("*", str(layer)),
            op=label.op,
            dtype=label.dtype,
            shape=tuple(extent.value(values) for extent in label.shape),
        )

    def timeline(self) -> Timeline:
        """The same as a direct recording at these dimensions."""
        return _Writer(self).write()


def table_at(section: Section, values: Mapping[str, int], repetitions: int) -> OperatorTable:
    """What a section computes at these dimensions."""
    return OperatorTable.of(_operator(operator, values, repetitions) for operator in section.operators)


def _operator(operator: TapeOperator, values: Mapping[str, int], repetitions: int) -> Operator:
    kind: Any = operator.kind
    return Operator(
        operator.name,
        kind,
        operator.phase,
        operator.module,
        operator.dtype,
        tuple(int(extent.value(values)) for extent in operator.extents),
        int(operator.flops.value(values)),
        tuple(int(size.value(values)) for size in operator.reads),
        tuple(int(size.value(values)) for size in operator.writes),
        operator.calls[0] + operator.calls[1] * repetitions,
    )


def unrolled_until(unrolled: UnrolledTape, mark: int) -> int:
    """Allocations made before a mark, by its number."""
    position, _ = unrolled.marks[mark]
    return int((unrolled.events[:position] >= 0).sum())


def complete_values(tape: Tape, values: Mapping[str, int]) -> dict[str, int]:
    """With the letters that follow from others: the number of parameter tensors."""
    constant, slope = tape.parameter_tensors
    return {**values, "n": constant + slope * tape.repetitions(values["L"])}


class _Writer:
    """Writes the events of a bound tape as a timeline; allocations of no bytes are left out, as a recording has none."""

    def __init__(self, bound: BoundTape) -> None:
        self._bound = bound
        self._timeline = Timeline()
        self._index: dict[int, int] = {}

    def write(self) -> Timeline:
        unrolled, position = self._bound.unrolled, 0
        for before, what in unrolled.between:
            self._events(unrolled.events[position:before].tolist())
            position = before
            if isinstance(what, str):
                self._timeline.mark(what)
            else:
                self._timeline.events.append(Event(EventKind(what.kind), 0, what.value))
        return self._timeline

    def _events(self, events: list[int]) -> None:
        sizes = self._bound.allocation_bytes
        for event in events:
            allocation = event if event >= 0 else ~event
            if not sizes[allocation]:
                continue
            if event >= 0:
                self._index[allocation] = self._timeline.alloc(self._bound.allocation(allocation))
            else:
                self._timeline.free(self._index[allocation])


__all__ = ["BLOCK", "BoundTape", "TapeError", "backend_at", "complete_values", "size_values", "why_not"]
