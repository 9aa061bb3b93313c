"""Scratch rules by name: memory that kernels take inside one operator and give back at its end, invisible to any trace.

A rule is a pure function of keyword arguments that returns bytes for each buffer, in the order the kernel allocates them. The number of
buffers is the same at every size: one that is not taken has 0 bytes. It takes ints or int64 arrays (`arithmetic`).

To add one: write the function in the file of its kind (or in a new one, imported by the room), register it with `@scratch_rule(NAME)`, and
name its source in the docstring. `virtual_cuda/scratch` says which operator takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, overload

from vramcast.errors import InputError

if TYPE_CHECKING:
    from vramcast.kernels.arithmetic import Integers

    Arguments: TypeAlias = Mapping[str, Integers | tuple[int, ...]]

Rule = TypeVar("Rule", bound=Callable[..., tuple["Integers", ...]])


class _Entry(NamedTuple):
    function: Callable[..., tuple[Integers, ...]]
    arguments: tuple[str, ...]


_RULES: dict[str, _Entry] = {}


def scratch_rule(name: str) -> Callable[[Rule], Rule]:
    """Register a rule under a name that recordings keep, and which therefore stays as it is.

    Raises:
        KeyError: there is a rule of that name.
    """

    def register(rule: Rule) -> Rule:
        if name in _RULES:
            raise KeyError(f"a scratch rule named {name} is registered already: {_RULES[name].function.__module__}")
        _RULES[name] = _Entry(rule, tuple(signature(rule).parameters))
        return rule

    return register


def scratch_rules() -> tuple[str, ...]:
    """Names of all rules."""
    return tuple(_RULES)


def rule_arguments(rule: str) -> tuple[str, ...]:
    """Names of the arguments a rule takes.

    Raises:
        InputError: no rule of that name.
    """
    return _find(rule).arguments


@overload
def scratch_buffers(rule: str, arguments: Mapping[str, int | tuple[int, ...]]) -> tuple[int, ...]: ...


@overload
def scratch_buffers(rule: str, arguments: Arguments) -> tuple[Integers, ...]: ...


def scratch_buffers(rule: str, arguments: Arguments) -> tuple[Integers, ...]:
    """Bytes of each scratch buffer of one call, in the order the kernel allocates them; 0 for one that is not taken.

    Args:
        rule: name of the rule, such as `flash_attention_backward`.
        arguments: sizes by name. With int64 arrays among them (of shapes that broadcast), each buffer is worked out case by case; a
            buffer that depends on no array stays an int.

    Raises:
        InputError: no rule of that name, or arguments that are not those it takes.
    """
    function, expected = _find(rule)
    if arguments.keys() != set(expected):
        raise InputError(f"arguments of {rule}", sorted(arguments), f"give exactly {', '.join(expected)}")
    return function(**arguments)


def _find(rule: str) -> _Entry:
    if rule not in _RULES:
        raise InputError("scratch rule", rule, f"choose one of {', '.join(sorted(_RULES))}")
    return _RULES[rule]
