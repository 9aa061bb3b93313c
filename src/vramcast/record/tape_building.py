"""Three recordings at small dimensions become one tape.

The first and second differ in their dimensions and have the same layers: together they turn numbers into formulas. The
first and third differ in layers alone: together they turn layers into loops. Whatever is not explained is refused, with
the event named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vramcast.errors import RecordingError
from vramcast.record.operator_building import Recordings, TensorCounts, section_operators
from vramcast.record.references import References, StepLayout
from vramcast.record.rolling import Folded, Piece, fold
from vramcast.record.symbols import Symbols, Unexplained
from vramcast.record.tokens import PER_PARAMETER_TENSOR, TokenStream, per_tensor, split_layer, token_stream
from vramcast.tapes.expressions import Expression, product
from vramcast.tapes.tape import (
    AllocRow,
    AttentionGuard,
    Label,
    OtherRow,
    Place,
    Row,
    ScratchSize,
    Section,
    Segment,
    Size,
    TapeOperator,
)
from vramcast.timeline import Allocation, Recording

WORKSPACE = Expression(1, ("U",))
MULTIPROCESSORS = Expression(1, ("m",))
_ONE_PER_TENSOR = Expression(1, ("n",))
_ITEM_BYTES = {
    "float64": 8,
    "int64": 8,
    "complex64": 8,
    "float32": 4,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
}
_CALL_SIZES = ("query_length", "key_length", "num_heads", "num_key_value_heads", "head_dim", "value_head_dim")


@dataclass(slots=True)
class TapeParts:
    """Tables of a tape under construction."""

    sizes: dict[Size, int] = field(default_factory=dict)
    labels: dict[Label, int] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    operators: list[tuple[TapeOperator, ...]] = field(default_factory=list)
    """Of each section of the last step."""
    parameter_tensors: tuple[int, int] = (0, 0)


class TapeBuilder:
    """Builds the sections of a tape, in the order of the recording."""

    def __init__(self, recordings: Recordings, symbols: Symbols, layout: StepLayout) -> None:
        """Compare the recordings.

        Raises:
            RecordingError: the first two took different paths, or layers cannot be folded.
        """
        self._recordings, self._symbols = recordings, symbols
        self._streams = [
            token_stream(recording, _parameter_tensors(recording))
            for recording in (recordings.first, recordings.second, recordings.longer)
        ]
        _check_same_path(self._streams[0], self._streams[1])
        self._folded = self._fold_all()
        self._references = References(self._streams[0], self._streams[2], self._folded, layout)
        self._references.resolve()
        self.parts = TapeParts()

    def build(self) -> TapeParts:
        """All sections, as rows.

        Raises:
            RecordingError: a size has no formula; the message names the event.
        """
        short, longer = (self._streams[i].parameter_tensors for i in (0, 2))
        slope = longer - short
        self.parts.parameter_tensors = (short - slope * self._recordings.repetitions, slope)
        for number, section in enumerate(self._streams[0].sections):
            segments = tuple(self._segment(number, k, piece) for k, piece in enumerate(self._folded[number].pieces(0)))
            self.parts.sections.append(Section(section.mark, segments))
        self.parts.operators = section_operators(self._recordings, self._symbols, self._counts())
        return self.parts

    def _counts(self) -> TensorCounts:
        recordings = (self._recordings.first, self._recordings.second, self._recordings.longer)
        return TensorCounts(
            tuple(stream.parameter_tensors for stream in self._streams),
            tuple(recording.parameters for recording in recordings),
        )

    def _fold_all(self) -> list[Folded]:
        short, longer = self._streams[0], self._streams[2]
        if not self._recordings.are_folded:
            return [Folded([], len(section.tokens)) for section in short.sections]
        if [section.mark for section in short.sections] != [section.mark for section in longer.sections]:
            raise RecordingError("another number of layers passes other marks")
        numbers: dict[Any, int] = {}

        def ids(stream: TokenStream, section: int) -> Any:
            keys = (token.key for token in stream.sections[section].tokens)
            return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)

        return [
            fold(ids(short, i), ids(longer, i), self._recordings.repetitions, section.mark)
            for i, section in enumerate(short.sections)
        ]

    def _segment(self, section: int, number: int, piece: Piece) -> Segment:
        rows = tuple(self._row(section, number, piece, row) for row in range(piece.width))
        extra = piece.repetitions - self._recordings.repetitions if piece.is_loop else None
        return Segment(extra, rows)

    def _row(self, section: int, number: int, piece: Piece, row: int) -> Row:
        token = self._streams[0].sections[section].tokens[piece.start + row]
        if token.allocation < 0:
            return OtherRow(token.kind, token.value)
        if not token.born:
            return self._references.rules[section, number, row]
        first, second = (self._streams[i].allocation(self._twin(i, section, piece.start + row)) for i in (0, 1))
        try:
            size, label = self._size(first, second), self._label(first, second)
        except Unexplained as error:
            name = f"{first.op} in {first.module or first.phase} ({first.shape}, {first.nbytes} bytes)"
            raise RecordingError(f"no formula for a size of {name}: {error}") from None
        return AllocRow(
            self.parts.sizes.setdefault(size, len(self.parts.sizes)),
            self.parts.labels.setdefault(label, len(self.parts.labels)),
            self._layer(section, number, row),
        )

    def _twin(self, which: int, section: int, position: int) -> int:
        return self._streams[which].sections[section].tokens[position].allocation

    def _size(self, first: Allocation, second: Allocation) -> Size:
        if first.scratch is not None and second.scratch is not None:
            return self._scratch_size(first, second)
        if first.category == "workspace":
            return WORKSPACE if first.op == "cublas workspace" else Expression(first.nbytes)
        shape = self._shape(first, second)
        item = _ITEM_BYTES.get(first.dtype, 1)
        if shape and all(_elements(allocation) * item == allocation.nbytes for allocation in (first, second)):
            return product([Expression(item), *shape])
        return self._symbols.solve(first.nbytes, second.nbytes)

    def _scratch_size(self, first: Allocation, second: Allocation) -> ScratchSize:
        assert first.scratch is not None and second.scratch is not None
        tensors = self._streams[0].parameter_tensors
        arguments: list[tuple[str, tuple[Expression, ...]]] = []
        for (name, one), (_, two) in zip(first.scratch.arguments, second.scratch.arguments, strict=True):
            if name == "num_tensors" and one == tensors:
                arguments.append((name, (_ONE_PER_TENSOR,)))
            elif name == "multiprocessors":  # a number of the GPU, whatever sizes it equals
                arguments.append((name, (MULTIPROCESSORS,)))
            elif isinstance(one, tuple):
                assert isinstance(two, tuple)
                arguments.append((name, self._symbols.solve_shape(one, two)))
            else:
                assert isinstance(two, int)
                arguments.append((name, (self._symbols.solve(one, two),)))
        return ScratchSize(first.scratch.rule, tuple(arguments), first.scratch.buffer)

    def _shape(self, first: Allocation, second: Allocation) -> tuple[Expression, ...]:
        if per_tensor(first.shape, self._streams[0].parameter_tensors) == (PER_PARAMETER_TENSOR,):
            return (_ONE_PER_TENSOR,)
        return self._symbols.solve_shape(first.shape, second.shape)

    def _label(self, first: Allocation, second: Allocation) -> Label:
        path, _ = split_layer(first.module)
        shape = () if first.category == "workspace" else self._shape(first, second)
        return Label(first.op, path, first.phase, first.category, first.dtype, shape, first.stream)

    def _layer(self, section: int, number: int, row: int) -> Place | None:
        """Where the layer's number comes from; it must hold in both recordings."""
        seen = [self._layers_seen(which, section, number, row) for which in (0, 2)]
        if seen[0][0][1] < 0:
            return None
        unit = self._recordings.layers_per_repetition
        for sign, from_end in ((1, 0), (-1, 1), (1, 1), (-1, 0)):
            (j, layer, n) = seen[0][0]
            place = Place(sign, from_end, layer - unit * (sign * j + from_end * (n - 1)))
            if all(
                layer == unit * (sign * j + from_end * (n - 1)) + place.offset for each in seen for j, layer, n in each
            ):
                return place
        raise RecordingError(f"the layers of a loop of section {section} are in no order")

    def _layers_seen(self, which: int, section: int, number: int, row: int) -> list[tuple[int, int, int]]:
        """(repetition, layer, repetitions) of a row; a plain row counts the repetitions of the model."""
        stream = self._streams[which]
        piece = self._folded[section].pieces(0 if which == 0 else 1)[number]
        total = piece.repetitions if piece.is_loop else self._recordings.repetitions + (which > 0)
        seen = []
        for j in range(piece.repetitions):
            allocation = self._twin(which, section, piece.start + row + j * piece.width)
            seen.append((j, split_layer(stream.allocation(allocation).module)[1], total))
        return seen


def attention_guards(first: Recording, second: Recording, symbols: Symbols) -> tuple[AttentionGuard, ...]:
    """The decisions of attention, with their sizes as formulas.

    Raises:
        RecordingError: the recordings decided differently.
    """
    pairs = list(zip(first.attention_choices, second.attention_choices, strict=False))
    same = [one.backend for one, _ in pairs] == [two.backend for _, two in pairs]
    if not same or len(first.attention_choices) != len(second.attention_choices):
        raise RecordingError("attention takes another backend at other sizes")
    return tuple(
        AttentionGuard(
            one,
            tuple((name, symbols.solve(getattr(one.call, name), getattr(two.call, name))) for name in _CALL_SIZES),
        )
        for one, two in pairs
    )


def _parameter_tensors(recording: Recording) -> int:
    timeline = recording.timeline
    return sum(
        allocation.category == "parameters" and allocation.phase == "load" for allocation in timeline.allocations
    )


def _elements(allocation: Allocation) -> int:
    elements = 1
    for extent in allocation.shape:
        elements *= extent
    return elements


def _check_same_path(first: TokenStream, second: TokenStream) -> None:
    """Both sets of dimensions must run the same operators in the same order, and end the same lives."""
    for one, two in zip(first.sections, second.sections, strict=True):
        for position, (a, b) in enumerate(zip(one.tokens, two.tokens, strict=False)):
            if (a.kind, a.value, a.born) != (b.kind, b.value, b.born) or _what(first, a) != _what(second, b):
                raise RecordingError(
                    f"{one.mark}, event {position}: {_what(first, a)} at the first dimensions, {_what(second, b)} at the second"
                )
        if len(one.tokens) != len(two.tokens):
            raise RecordingError(
                f"{one.mark}: {len(one.tokens)} events at the first dimensions, {len(two.tokens)} at the second"
            )


def _what(stream: TokenStream, token: Any) -> Sequence[Any]:
    if token.allocation < 0:
        return (token.kind, token.value)
    allocation = stream.allocation(token.allocation)
    scratch = allocation.scratch and (allocation.scratch.rule, allocation.scratch.buffer)
    return (
        stream.birthplace[token.allocation],
        allocation.op,
        allocation.module,
        allocation.phase,
        allocation.category,
        allocation.dtype,
        len(allocation.shape),
        scratch,
    )
