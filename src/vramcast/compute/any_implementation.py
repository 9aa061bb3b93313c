"""What no implementation of a job gets around: its matrix products and its attention, and of those only what is certain.

The recorded program is one way of running a job. A compiler and hand-written kernels fuse elementwise operators into their neighbours,
and a serving engine writes new keys and values where they belong, where transformers copies the whole cache for every token. What is
left for all of them is the products with the weights and the attention, with their own inputs and results and in the job's dtypes.

Not counted, because an implementation can do without, or because the sizes do not tell how much of it is needed:

- elementwise operators, reductions, copies: all of their traffic, the optimizer's too;
- batched products. In attention that is written out, a fused kernel never stores the scores, reads keys and values once and not once
  for every head that shares them, and skips what the mask hides;
- fused attention under a mask, which may hide most pairs (a window), and whose keys may have been repeated for every head;
- experts that no token chose, in grouped products; experts gathered for each token are read once for all of their tokens. A token's
  own experts differ from each other, so that one token's share is always read.

Assumes: a product reads its inputs from device memory and writes its result there. A kernel that fuses two products, and a model so
small that its tensors stay in the L2 cache (tens of MB), can be faster.

Source: https://arxiv.org/abs/2205.14135 (scores that are never stored), https://arxiv.org/abs/2309.06180 (a cache that is not copied)
"""

from collections.abc import Iterable
from dataclasses import replace

from vramcast.compute.flops import AttentionExtents
from vramcast.timeline import Operator, OperatorTable

ANY_IMPLEMENTATION = "any implementation (compiled, fused, serving engines): matrix products and attention only"
"""What the second bound is a bound of."""
_BATCHED = ("bmm", "baddbmm", "addbmm")
_GROUPED = "grouped_mm"
_QUERY_KEY_VALUE = 3


def unavoidable(operators: Iterable[Operator], *, tokens: int) -> OperatorTable:
    """The part of a table that every implementation of the same job has to do: operator by operator never more than the table.

    Args:
        operators: those of one interval, such as an `OperatorTable`.
        tokens: which the interval takes through the model; more than it does give a lower bound as well, only a looser one.
    """
    kept = (_unavoidable(operator, tokens) for operator in operators)
    return OperatorTable(tuple(operator for operator in kept if operator is not None))


def _unavoidable(operator: Operator, tokens: int) -> Operator | None:
    if operator.kind == "attention":
        return operator if _pairs_are_certain(operator) else None
    if operator.kind != "matmul":
        return None
    if _GROUPED in operator.name:
        return replace(operator, reads=(), writes=())
    batch, rows, columns, shared = operator.extents
    if batch == 1 and operator.name not in _BATCHED:
        return operator
    if (
        columns == 1 and rows > 1 and shared > 1
    ):  # a matrix for each vector: the expert for a token, not keys for a query
        return replace(operator, reads=(max(operator.reads) // tokens,), writes=())
    return None


def _pairs_are_certain(attention: Operator) -> bool:
    """The kernel was told to be causal, or one query sees all keys: no mask, which would be a fourth input."""
    extents = AttentionExtents(*attention.extents)
    return bool(extents.is_causal) or (extents.query_length == 1 and len(attention.reads) == _QUERY_KEY_VALUE)
