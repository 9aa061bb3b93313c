"""A recording as sections of tokens: what can be compared between layers and between recordings.

A token is everything an event says but which allocation and which layer it is: two layers that do the same give the same
tokens. Numbers that depend on how many layers there are (a list with one entry for each parameter tensor) are written as such.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from vramcast.errors import RecordingError
from vramcast.timeline import Allocation, EventKind, Recording

PER_PARAMETER_TENSOR = "one for each parameter tensor"
_LAYER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def split_layer(path: str) -> tuple[str, int]:
    """Module path with the layer's number written `*`, and the number; -1 where there is none."""
    match = _LAYER.search(path)
    return (path, -1) if match is None else (path[: match.start()] + "*" + path[match.end() :], int(match.group()))


@dataclass(frozen=True, slots=True)
class Token:
    """One event of a section, marks left out."""

    key: Hashable
    """Equal for events that do the same."""
    allocation: int = -1
    """Index of the allocation that is made or freed; -1 for any other event."""
    born: bool = False
    kind: int = 0
    value: int = 0


@dataclass(slots=True)
class TokenSection:
    """The events up to a mark."""

    mark: str
    tokens: list[Token] = field(default_factory=list)


@dataclass(slots=True)
class TokenStream:
    """A whole recording."""

    recording: Recording
    parameter_tensors: int
    sections: list[TokenSection] = field(default_factory=list)
    birthplace: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Allocation -> (section, position in it)."""

    def allocation(self, index: int) -> Allocation:
        """An allocation by index."""
        return self.recording.timeline.allocations[index]


def token_stream(recording: Recording, parameter_tensors: int) -> TokenStream:
    """The sections of a recording.

    Raises:
        RecordingError: events after the last mark.
    """
    timeline = recording.timeline
    stream = TokenStream(recording, parameter_tensors)
    keys = [_allocation_key(allocation, parameter_tensors) for allocation in timeline.allocations]
    current: list[Token] = []
    for kind, target, value in timeline.events:
        if kind == EventKind.MARK:
            stream.sections.append(TokenSection(timeline.marks[target], current))
            current = []
        elif kind == EventKind.ALLOC:
            stream.birthplace[target] = (len(stream.sections), len(current))
            current.append(Token(keys[target], target, born=True))
        elif kind == EventKind.FREE:
            current.append(Token(("free", keys[target]), target))
        elif kind == EventKind.HOST_WAIT_STREAM:
            current.append(Token(("event", kind, value), kind=int(kind), value=value))
        else:
            raise RecordingError(f"a tape holds no event of kind {EventKind(kind).name}")
    if current:
        raise RecordingError("a recording for a tape must end with a mark")
    return stream


def per_tensor(shape: tuple[int, ...], count: int) -> tuple[int | str, ...]:
    """A shape with the number of parameter tensors written as such."""
    return (PER_PARAMETER_TENSOR,) if shape == (count,) else shape


def _allocation_key(allocation: Allocation, count: int) -> Hashable:
    path, _ = split_layer(allocation.module)
    shape = per_tensor(allocation.shape, count)
    size: Hashable = allocation.nbytes if shape == allocation.shape else shape
    if allocation.scratch is not None:
        arguments = tuple(
            (name, PER_PARAMETER_TENSOR if name == "num_tensors" and value == count else value)
            for name, value in allocation.scratch.arguments
        )
        size = (allocation.scratch.rule, arguments, allocation.scratch.buffer)
    elif allocation.category == "workspace":
        size = allocation.op
    return (
        allocation.op,
        path,
        allocation.phase,
        allocation.category,
        allocation.dtype,
        shape,
        size,
        allocation.stream,
    )


def layers_of(stream: TokenStream) -> Iterator[int]:
    """The layer's number of every allocation."""
    for allocation in stream.recording.timeline.allocations:
        yield split_layer(allocation.module)[1]
