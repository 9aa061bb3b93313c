"""What a section computes, as formulas: equal calls of all layers counted together, as a + b x repetitions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vramcast.errors import RecordingError
from vramcast.record.symbols import Symbols, Unexplained
from vramcast.record.tokens import split_layer
from vramcast.tapes.expressions import Expression
from vramcast.tapes.tape import TapeOperator
from vramcast.timeline import Operator, OperatorTable, Recording

_PER_PARAMETER, _PER_TENSOR = "p", "n"
"""Letters of sizes that grow with the number of parameters and of parameter tensors."""


@dataclass(slots=True)
class Recordings:
    """What a tape is built from."""

    first: Recording
    second: Recording
    longer: Recording
    repetitions: int
    """Of the layer pattern, in `first` and `second`; `longer` has one more, or is `first` again where nothing is to be folded."""
    layers_per_repetition: int = 1

    @property
    def are_folded(self) -> bool:
        """Whether layers are to become loops."""
        return self.longer is not self.first


class TensorCounts(NamedTuple):
    """Of the three recordings."""

    tensors: tuple[int, ...]
    parameters: tuple[int, ...]


def section_operators(recordings: Recordings, symbols: Symbols, counts: TensorCounts) -> list[tuple[TapeOperator, ...]]:
    """The operators of each section of the last step.

    Raises:
        RecordingError: a number has no formula; the message names the operator.
    """
    tables = [
        [_grouped(table, counts, which) for table in recording.section_operators]
        for which, recording in enumerate((recordings.first, recordings.second, recordings.longer))
    ]
    return [
        _section(first, second, longer, recordings.repetitions, symbols)
        for first, second, longer in zip(*tables, strict=True)
    ]


class _Call(NamedTuple):
    """An operator as it can be compared between layers: sizes of whole lists of parameters are marked as such."""

    name: str
    kind: str
    phase: str
    module: str
    dtype: str
    extents: tuple[int, ...]
    flops: int
    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]


def _grouped(table: OperatorTable, counts: TensorCounts, which: int) -> dict[_Call, int]:
    found: dict[_Call, int] = {}
    for operator in table:
        call = _Call(
            operator.name,
            operator.kind,
            operator.phase,
            split_layer(operator.module)[0],
            operator.dtype,
            operator.extents,
            operator.flops,
            _marked(operator.reads, operator, counts, which),
            _marked(operator.writes, operator, counts, which),
        )
        found[call] = found.get(call, 0) + operator.calls
    return found


def _marked(sizes: tuple[int, ...], operator: Operator, counts: TensorCounts, which: int) -> tuple[Hashable, ...]:
    """Sizes of lists with an entry for each parameter as (letter, bytes for each)."""
    if operator.phase != "optimizer":
        return sizes
    return tuple(_marked_size(size, counts.tensors[which], counts.parameters[which]) for size in sizes)


def _marked_size(size: int, tensors: int, parameters: int) -> Hashable:
    if size % parameters == 0:
        return (_PER_PARAMETER, size // parameters)
    if size % tensors == 0 and size // tensors in (2, 4, 8):
        return (_PER_TENSOR, size // tensors)
    return size


def _section(
    first: Mapping[_Call, int],
    second: Mapping[_Call, int],
    longer: Mapping[_Call, int],
    repetitions: int,
    symbols: Symbols,
) -> tuple[TapeOperator, ...]:
    if len(first) != len(second) or first.keys() != longer.keys():
        different = next(iter(first.keys() ^ longer.keys()), None)
        raise RecordingError(f"another number of layers computes other things: {different}")
    found = []
    for (one, calls), (two, twin_calls) in zip(first.items(), second.items(), strict=True):
        if one[:5] != two[:5] or calls != twin_calls:
            raise RecordingError(f"other operators at other sizes: {one[:5]} and {two[:5]}")
        slope = longer[one] - calls
        found.append(_operator(one, two, (calls - slope * repetitions, slope), symbols))
    return tuple(found)


def _operator(one: _Call, two: _Call, calls: tuple[int, int], symbols: Symbols) -> TapeOperator:
    try:
        return TapeOperator(
            *one[:5],
            extents=symbols.solve_shape(one.extents, two.extents),
            flops=symbols.solve(one.flops, two.flops),
            reads=_formulas(one.reads, two.reads, symbols),
            writes=_formulas(one.writes, two.writes, symbols),
            calls=calls,
        )
    except (Unexplained, ValueError) as error:
        raise RecordingError(f"no formula for {one.name} in {one.module or one.phase}: {error}") from None


def _formulas(one: tuple[Hashable, ...], two: tuple[Hashable, ...], symbols: Symbols) -> tuple[Expression, ...]:
    return tuple(_formula(first, second, symbols) for first, second in zip(one, two, strict=True))


def _formula(one: Hashable, two: Hashable, symbols: Symbols) -> Expression:
    if isinstance(one, tuple) and isinstance(two, tuple):
        letter, each = one
        if one != two:
            raise Unexplained(f"{one} and {two}")
        return Expression(each, (letter,))
    if not isinstance(one, int) or not isinstance(two, int):
        raise Unexplained(f"{one} and {two}")
    return symbols.solve(one, two)
