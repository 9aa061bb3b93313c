"""Integer arithmetic that reads the same for one size and for many: an int in gives an int, an int64 array an int64 array.

numpy is imported only when an array comes in. Arrays are of int64, which wraps without a word beyond 2**63; ints have no limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers: TypeAlias = int | NDArray[np.int64]
    """One size, or one for each case."""
    Conditions: TypeAlias = bool | NDArray[np.bool_]


def minimum(one: Integers, other: Integers) -> Integers:
    """The smaller of the two, case by case."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    import numpy as np

    return np.minimum(one, other)


def maximum(one: Integers, other: Integers) -> Integers:
    """The larger of the two, case by case."""
    return -minimum(-one, -other)


def where(condition: Conditions, if_true: Integers, if_false: Integers) -> Integers:
    """`if_true` where the condition holds, else `if_false`, case by case; both are worked out beforehand."""
    if isinstance(condition, bool):
        return if_true if condition else if_false
    import numpy as np

    return np.where(condition, if_true, if_false)


def ceil_divide(value: Integers, divisor: Integers) -> Integers:
    """How many parts of `divisor` it takes to hold `value`."""
    return -(-value // divisor)


def round_up(value: Integers, multiple: Integers) -> Integers:
    """Smallest multiple of `multiple` that is not below `value`."""
    return ceil_divide(value, multiple) * multiple
