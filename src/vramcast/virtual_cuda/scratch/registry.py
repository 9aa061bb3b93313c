"""Operator name -> its scratch rule, and how the rule's arguments are read from a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vramcast.kernels import scratch_buffers
from vramcast.timeline.events import ScratchCall

ReadArguments = Callable[[Any], dict[str, int | tuple[int, ...]]]
"""Takes the positional arguments of the operator (tensors are only asked for shapes, strides and dtypes); returns those of the rule."""

_RULES: dict[str, tuple[str, ReadArguments]] = {}


class ScratchBuffer(NamedTuple):
    """One buffer of one call."""

    nbytes: int
    call: ScratchCall


def takes_scratch(operator: str, rule: str) -> Callable[[ReadArguments], ReadArguments]:
    """Register what reads the arguments of `rule` from a call of `operator` (its aten name without overload)."""

    def register(read_arguments: ReadArguments) -> ReadArguments:
        if operator in _RULES:
            raise KeyError(f"a scratch rule for {operator} is registered already: {_RULES[operator][0]}")
        _RULES[operator] = (rule, read_arguments)
        return read_arguments

    return register


def scratch_of(operator: str, args: Any) -> tuple[ScratchBuffer, ...]:
    """The scratch buffers that one call takes, in the order the kernel allocates them; empty where there is none."""
    entry = _RULES.get(operator)
    if entry is None:
        return ()
    rule, read_arguments = entry
    arguments = read_arguments(args)
    named = tuple(arguments.items())
    return tuple(
        ScratchBuffer(nbytes, ScratchCall(rule, named, buffer))
        for buffer, nbytes in enumerate(scratch_buffers(rule, arguments))
        if nbytes > 0
    )


def registered_operators() -> dict[str, str]:
    """Operator -> name of its rule, for all that have one."""
    return {operator: rule for operator, (rule, _) in _RULES.items()}
