"""Operator tables written by hand, small enough to check with a pencil."""

from vramcast.hardware import GPU, DenseTflops
from vramcast.timeline import Operator, OperatorTable

ROUND_GPU = GPU(
    name="round-numbers",
    vendor="nvidia",
    architecture="ampere",
    memory_total_bytes=1 << 34,
    memory_bandwidth_bytes_per_second=10**12,
    dense_tflops=DenseTflops(fp32=10, tf32=60, bf16=100, fp16=100),
    source="made up",
    verified="user",
)


def matmul(flops: int, *, read: int = 0, written: int = 0, **changes: object) -> Operator:
    """A matrix product; its extents play no part."""
    fields = {"phase": "forward", "module": "h.0", "dtype": "bfloat16", "calls": 1} | changes
    return Operator(
        name="mm", kind="matmul", extents=(1, 1, 1, 1), flops=flops, reads=(read,), writes=(written,), **fields
    )  # type: ignore[arg-type]


def pointwise(read: int, written: int, name: str = "mul", **changes: object) -> Operator:
    """An operator that only moves bytes."""
    fields = {"kind": "pointwise", "phase": "forward", "module": "h.0", "dtype": "bfloat16", "calls": 1} | changes
    return Operator(name=name, reads=(read,), writes=(written,), **fields)  # type: ignore[arg-type]


def attention(queries: int, keys: int, *, is_causal: bool, backward: bool = False, dtype: str = "bfloat16") -> Operator:
    """Fused attention of one head of size 1: torch counts 2 products forward and 5 backward."""
    pairs = queries * keys
    return Operator(
        name="_flash_attention_backward" if backward else "_flash_attention_forward",
        kind="attention",
        phase="backward" if backward else "forward",
        module="h.0.attn",
        dtype=dtype,
        extents=(1, 1, 1, queries, keys, 1, int(is_causal)),
        flops=(10 if backward else 4) * pairs,
    )


def table(*operators: Operator) -> OperatorTable:
    return OperatorTable.of(operators)


def step_table(batch_size: int = 1, micro_batches: int = 1) -> OperatorTable:
    """A training step: per micro batch 1 TFLOP forward, 2 backward and 1 recomputed at batch 1; gradients summed from the second on."""
    calls = batch_size * micro_batches
    operators = [
        matmul(10**12, calls=calls),
        matmul(10**12, phase="backward", calls=2 * calls),
        matmul(10**12, phase="recompute", calls=calls),
        pointwise(2 * 10**9, 10**9, name="_fused_adamw_", phase="optimizer", module="", dtype="float32"),
    ]
    if micro_batches > 1:
        operators.append(pointwise(2 * 10**8, 10**8, name="add_", phase="backward", module="", calls=micro_batches - 1))
    return table(*operators)
