"""FLOPs of a step: what torch's counter counts, what of it is the model's, and what the kernels cannot do without.

A multiply-add is two FLOPs; only matrix products and attention count, as in `torch.utils.flop_counter`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from vramcast.result import Result
from vramcast.timeline import Operator


class StepFlops(Result):
    """FLOPs of one optimizer step by phase, as torch's FlopCounterMode counts them."""

    forward: int = 0
    backward: int = 0
    recompute: int = 0
    """Forward passes done again by activation checkpointing."""
    optimizer: int = 0
    other: int = 0
    """In a phase that the code named itself."""

    @property
    def total(self) -> int:
        """Hardware FLOPs: recomputation included."""
        return self.forward + self.backward + self.recompute + self.optimizer + self.other


class AttentionExtents(NamedTuple):
    """`Operator.extents` of a fused attention."""

    batch: int
    heads: int
    key_value_heads: int
    query_length: int
    key_length: int
    head_dim: int
    is_causal: int


def step_flops(operators: Iterable[Operator]) -> StepFlops:
    """FLOPs by phase."""
    sums: dict[str, int] = {}
    for operator in operators:
        phase = operator.phase if operator.phase in StepFlops.model_fields else "other"
        sums[phase] = sums.get(phase, 0) + operator.flops * operator.calls
    return StepFlops(**sums)


def model_flops(operators: Iterable[Operator]) -> int:
    """FLOPs that the model's definition asks for, however it is executed: nothing computed twice.

    Left out are recomputation by activation checkpointing, and the scores that the backward of fused attention computes
    once more (2 * B * H * Tq * Tk * D, which torch's counter includes). Causal attention counts in full, as in PaLM's
    definition of MFU and in torch's counter.

    Source: https://arxiv.org/abs/2204.02311, appendix B
    """
    return sum(_model_flops(operator) * operator.calls for operator in operators if operator.phase != "recompute")


def necessary_flops(operator: Operator) -> int:
    """FLOPs that a kernel cannot skip in one call: fused causal attention leaves out the blocks above the diagonal.

    The mask is aligned at the top left: query i sees min(i + 1, Tk) keys.
    """
    if operator.kind != "attention":
        return operator.flops
    extents = AttentionExtents(*operator.extents)
    if not extents.is_causal:
        return operator.flops
    queries, keys = extents.query_length, extents.key_length
    full_rows = max(queries - keys, 0)
    rows = queries - full_rows
    seen = rows * (rows + 1) // 2 + full_rows * keys
    return operator.flops * seen // (queries * keys)


def _model_flops(operator: Operator) -> int:
    if operator.kind != "attention" or not operator.name.endswith("backward"):
        return operator.flops
    extents = AttentionExtents(*operator.extents)
    pairs = extents.batch * extents.heads * extents.query_length * extents.key_length
    return operator.flops - 2 * pairs * extents.head_dim
