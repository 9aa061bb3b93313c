"""Operator name -> its scratch rule, and how the rule's arguments are read from a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vramcast.kernels import rule_arguments, scratch_buffers
from vramcast.timeline.events import ScratchCall

Arguments = dict[str, int | tuple[int, ...]]
ReadArguments = Callable[[Any], Arguments | None]
"""Takes the positional arguments of the operator (tensors are only asked for shapes, strides and dtypes); returns those of the rule, or
None for a call that takes nothing. `multiprocessors` is filled in for rules that ask for it."""

MULTIPROCESSORS = "multiprocessors"
ALL_RESULTS = 1 << 30


class _Entry(NamedTuple):
    rule: str
    read_arguments: ReadArguments
    results_before: int
    comes_and_goes: bool


_RULES: dict[str, _Entry] = {}


class ScratchBuffer(NamedTuple):
    """One buffer of one call."""

    nbytes: int
    call: ScratchCall


def takes_scratch(
    operator: str, rule: str, *, results_before: int = ALL_RESULTS, comes_and_goes: bool = False
) -> Callable[[ReadArguments], ReadArguments]:
    """Register what reads the arguments of `rule` from a call of `operator` (its aten name without overload).

    Args:
        operator: name of the operator.
        rule: name of the rule.
        results_before: how many results the kernel makes before its scratch; all if not given.
        comes_and_goes: whether its buffers are there at some sizes and not at others that a tape takes for the same path.
    """

    def register(read_arguments: ReadArguments) -> ReadArguments:
        if operator in _RULES:
            raise KeyError(f"a scratch rule for {operator} is registered already: {_RULES[operator].rule}")
        _RULES[operator] = _Entry(rule, read_arguments, results_before, comes_and_goes)
        return read_arguments

    return register


def scratch_of(
    operator: str, args: Any, multiprocessors: int, *, keep_empty: bool = False
) -> tuple[ScratchBuffer, ...]:
    """The scratch buffers that one call takes, in the order the kernel allocates them; empty where there is none.

    Args:
        operator: name of the operator.
        args: its positional arguments.
        multiprocessors: of the GPU.
        keep_empty: with buffers of 0 bytes, for operators whose scratch comes and goes.
    """
    entry = _RULES.get(operator)
    if entry is None:
        return ()
    arguments = entry.read_arguments(args)
    if arguments is None:
        return ()
    if MULTIPROCESSORS in rule_arguments(entry.rule):
        arguments[MULTIPROCESSORS] = multiprocessors
    named = tuple(arguments.items())
    return tuple(
        ScratchBuffer(nbytes, ScratchCall(entry.rule, named, buffer))
        for buffer, nbytes in enumerate(scratch_buffers(entry.rule, arguments))
        if nbytes > 0 or (keep_empty and entry.comes_and_goes)
    )


def results_before_scratch(operator: str) -> int | None:
    """How many results a kernel makes before its scratch; None where it has none."""
    entry = _RULES.get(operator)
    return None if entry is None else entry.results_before


def registered_operators() -> dict[str, str]:
    """Operator -> name of its rule, for all that have one."""
    return {operator: entry.rule for operator, entry in _RULES.items()}
