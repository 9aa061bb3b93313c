"""What a recorded program computes: its operators, grouped, beside the allocations that a timeline holds. Plain data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

OperatorKind = Literal["matmul", "attention", "pointwise", "reduction", "copy", "view", "other"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One call of an aten operator on the GPU."""

    name: str
    """aten name without overload, such as `addmm`."""
    kind: OperatorKind
    """`view` does no work on the GPU: it costs the host a dispatch and nothing else."""
    phase: str
    """forward, backward, recompute, optimizer, prefill, decode ..."""
    module: str
    """Qualified path of the module whose forward (or whose backward) asked for it."""
    dtype: str
    """dtype in which it computes: that of its first input tensor, such as `bfloat16`."""
    extents: tuple[int, ...] = ()
    """matmul: (batch, m, n, k); attention: (batch, heads, key_value_heads, query_length, key_length, head_dim, is_causal)."""
    flops: int = 0
    """As torch's FlopCounterMode counts: matrix products and attention, a multiply-add is two. Counted alike: the products
    that it leaves out (grouped ones of experts, products with a vector)."""
    reads: tuple[int, ...] = ()
    """Bytes of each distinct input tensor (an expanded dimension is read once); a long list of tensors is one number."""
    writes: tuple[int, ...] = ()
    """Bytes of each result, or of each input written in place; a long list of tensors is one number."""
    calls: int = 1

    @property
    def bytes_read(self) -> int:
        """Bytes of all inputs of one call."""
        return sum(self.reads)

    @property
    def bytes_written(self) -> int:
        """Bytes of all results of one call."""
        return sum(self.writes)


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """Operators of one interval (an optimizer step, a prefill, a decode step), equal calls counted together."""

    operators: tuple[Operator, ...]
    """In order of first appearance."""

    @classmethod
    def of(cls, calls: Iterable[Operator]) -> "OperatorTable":
        """Group equal calls."""
        counts: dict[Operator, int] = {}
        for operator in calls:
            key = operator if operator.calls == 1 else replace(operator, calls=1)
            counts[key] = counts.get(key, 0) + operator.calls
        # Most calls are the only ones of their kind, and a replaced dataclass is slow to make.
        return cls(tuple(o if count == 1 else replace(o, calls=count) for o, count in counts.items()))

    def __iter__(self) -> Iterator[Operator]:
        return iter(self.operators)

    @property
    def flops(self) -> int:
        """FLOPs of all calls."""
        return sum(operator.flops * operator.calls for operator in self.operators)

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written by all calls."""
        return sum((operator.bytes_read + operator.bytes_written) * operator.calls for operator in self.operators)

    @property
    def dispatches(self) -> int:
        """Calls that the host has to dispatch, views included."""
        return sum(operator.calls for operator in self.operators)
