"""Results that are known although one input is not: true or anything is true, nothing and anything is nothing.

Stopping criteria of generation are made of such sums: "the length is reached, or the last token ends the sentence". Without this rule the
unknown half would hide the known one, and a loop would never end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _all_true(value: torch.Tensor) -> bool:
    return value.dtype == torch.bool and bool(value.all())


def _all_zero(value: torch.Tensor) -> bool:
    return not value.dtype.is_floating_point and not value.dtype.is_complex and not bool(value.any())


_ABSORBING: dict[str, Callable[[torch.Tensor], bool]] = {
    "bitwise_or": _all_true,
    "logical_or": _all_true,
    "__or__": _all_true,
    "bitwise_and": _all_zero,
    "logical_and": _all_zero,
    "__and__": _all_zero,
    "mul": _all_zero,
}
"""Operator -> whether a known operand decides the result, whatever the other one is. Floating zeros do not: they meet infinities."""


def absorbing_result(func: Any, name: str, args: Any, value_of: Callable[[torch.Tensor], Any]) -> torch.Tensor | None:
    """Value of `func(*args)` where one known operand decides it, else None.

    Args:
        value_of: the known content of a tensor, or None.
    """
    decides = _ABSORBING.get(name.removesuffix("_") if not name.endswith("__") else name)
    if decides is None or not all(isinstance(arg, torch.Tensor) for arg in args[:2]) or len(args) != 2:
        return None
    values = [value_of(arg) for arg in args]
    for known in values:
        if known is not None and known.numel() and decides(known):
            # Shape and dtype come from the operator itself, on zeros where nothing is known: they cannot change the result.
            filled = [
                torch.zeros(arg.shape, dtype=arg.dtype) if v is None else v for arg, v in zip(args, values, strict=True)
            ]
            result: torch.Tensor = func(*filled)
            return result
    return None
