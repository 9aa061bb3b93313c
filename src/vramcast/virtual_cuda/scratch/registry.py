"""Operator name -> rule that tells the sizes of its scratch buffers."""

from collections.abc import Callable
from typing import Any

ScratchRule = Callable[[Any], tuple[int, ...]]
"""Takes the positional arguments of the operator (tensors are only asked for shapes, strides and dtypes); returns bytes per buffer."""

_RULES: dict[str, ScratchRule] = {}


def scratch_rule(operator: str) -> Callable[[ScratchRule], ScratchRule]:
    """Register the rule for `operator` (its aten name without overload)."""

    def register(rule: ScratchRule) -> ScratchRule:
        if operator in _RULES:
            raise KeyError(f"a scratch rule for {operator} is registered already: {_RULES[operator].__module__}")
        _RULES[operator] = rule
        return rule

    return register


def scratch_bytes(operator: str, args: Any) -> tuple[int, ...]:
    """Bytes of each scratch buffer of one call, in the order the kernel allocates them; empty where there is none."""
    rule = _RULES.get(operator)
    return () if rule is None else tuple(nbytes for nbytes in rule(args) if nbytes > 0)


def registered_operators() -> tuple[str, ...]:
    """Names of all operators that have a rule."""
    return tuple(_RULES)


def round_up(value: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple
