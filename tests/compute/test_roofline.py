"""The bound of an operator is the larger of its two least times; the bound of a table is their sum."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_tables import ROUND_GPU, attention, matmul, pointwise, step_table, table

from vramcast.compute import operator_bound, roofline
from vramcast.compute.flops import necessary_flops
from vramcast.compute.rates import job_peak, matmul_peak
from vramcast.compute.traffic import least_bytes_moved
from vramcast.errors import InputError
from vramcast.hardware import custom_gpu, find_gpu
from vramcast.timeline import Operator, OperatorTable
from vramcast.units import GIB

operators = st.builds(
    matmul,
    st.integers(0, 10**15),
    read=st.integers(0, 10**12),
    written=st.integers(1, 10**12),
    phase=st.sampled_from(["forward", "backward", "optimizer"]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    calls=st.integers(1, 1000),
)
tables = st.lists(operators, min_size=1, max_size=8).map(OperatorTable.of)


def test_bound_by_hand() -> None:
    # 2e12 FLOPs at 100 TFLOP/s: 20 ms; 5e9 bytes at 1 TB/s: 5 ms; 3e9 bytes at 1 TB/s: 3 ms, twice.
    product = matmul(2 * 10**12, read=4 * 10**9, written=10**9)
    scaling = pointwise(2 * 10**9, 10**9, calls=2)
    assert operator_bound(product, ROUND_GPU) == (0.020, 0.005)
    assert operator_bound(product, ROUND_GPU).limited_by_compute
    bound = roofline(table(product, scaling), ROUND_GPU)
    assert bound.lower_bound_seconds == pytest.approx(0.026, rel=1e-15)
    assert (bound.compute_limited_seconds, bound.bandwidth_limited_seconds) == (0.020, 0.006)
    assert (bound.flops, bound.bytes_moved) == (2 * 10**12, 11 * 10**9)
    assert [(part.name, part.lower_bound_seconds, part.calls) for part in bound.kinds] == [
        ("matmul", 0.020, 1),
        ("pointwise", 0.006, 2),
    ]


def test_phases_come_in_order_of_appearance() -> None:
    bound = roofline(step_table(), ROUND_GPU)
    assert [(part.name, part.lower_bound_seconds) for part in bound.phases] == [
        ("forward", 0.01),
        ("backward", 0.02),
        ("recompute", 0.01),
        ("optimizer", 0.003),
    ]


def test_views_cost_nothing_on_the_gpu() -> None:
    view = Operator("view", "view", "forward", "", "bfloat16", reads=(10**9,), writes=(10**9,), calls=7)
    assert operator_bound(view, ROUND_GPU).seconds == 0
    assert roofline([view], ROUND_GPU).bytes_moved == 0


@pytest.mark.parametrize(
    ("name", "read", "written", "moved"),
    [
        ("mul", 30, 10, 40),
        ("embedding", 10**6, 12, 12),  # of the table only the rows asked for
        ("nll_loss_backward", 10**6, 100, 100),
        ("zero_", 50, 50, 50),  # in place, not read
        ("copy_", 70, 50, 70),  # 20 read, 50 written; the target is among the inputs
        ("index_copy_", 1010, 1000, 10),  # one row into a cache of 1000
        ("empty_like", 50, 50, 0),
    ],
)
def test_bytes_that_a_kernel_does_not_touch_are_left_out(name: str, read: int, written: int, moved: int) -> None:
    assert least_bytes_moved(pointwise(read, written, name=name)) == moved


@given(st.integers(1, 40), st.integers(1, 40))
def test_causal_attention_needs_the_pairs_below_the_diagonal(queries: int, keys: int) -> None:
    seen = sum(key <= query for query in range(queries) for key in range(keys))
    assert necessary_flops(attention(queries, keys, is_causal=True)) == 4 * seen
    assert necessary_flops(attention(queries, keys, is_causal=False)) == 4 * queries * keys


def test_fp32_products_use_tf32_only_when_allowed() -> None:
    product = matmul(6 * 10**12, dtype="float32")
    assert operator_bound(product, ROUND_GPU).seconds == 0.6
    assert operator_bound(product, ROUND_GPU, allow_tf32=True).seconds == 0.1


def test_fused_fp32_attention_takes_three_tf32_products_for_one() -> None:
    fp32 = attention(1000, 1000, is_causal=False, dtype="float32")
    assert operator_bound(fp32, ROUND_GPU).seconds == 4 * 10**6 / 20e12
    # a card without TF32 does it at its fp32 rate
    assert operator_bound(fp32, find_gpu("v100-16gb")).seconds == pytest.approx(4 * 10**6 / 15.7e12)


def test_a_half_precision_without_a_path_of_its_own_runs_at_the_fp32_rate() -> None:
    turing = find_gpu("rtx-2080-ti")
    assert matmul_peak(turing, "bfloat16") == ("fp32", 13.4e12)
    assert matmul_peak(turing, "float16") == ("fp16", 53.8e12)


@pytest.mark.parametrize(
    ("precision", "peak"),
    [
        ("fp32", ("fp32", 19.5e12)),
        ("amp-bf16", ("bf16", 312e12)),
        ("bf16", ("bf16", 312e12)),
        ("amp-fp16", ("fp16", 312e12)),
        ("fp16", ("fp16", 312e12)),
    ],
)
def test_peak_of_a_precision(precision: str, peak: tuple[str, float]) -> None:
    assert job_peak(find_gpu("a100-80gb"), precision) == peak  # type: ignore[arg-type]


def test_a_custom_gpu_has_no_speed() -> None:
    with pytest.raises(InputError, match=r"gpu='custom'.*vramcast gpus"):
        roofline(step_table(), custom_gpu(24 * GIB))


def test_a_dtype_without_a_rate_is_named() -> None:
    with pytest.raises(InputError, match=r"dtype='float64'.*known: float32"):
        roofline([matmul(1, dtype="float64")], ROUND_GPU)


@given(tables, st.integers(1, 1000))
def test_the_bound_is_linear_in_the_work(work: OperatorTable, factor: int) -> None:
    larger = [
        Operator(
            op.name,
            op.kind,
            op.phase,
            op.module,
            op.dtype,
            op.extents,
            op.flops * factor,
            tuple(size * factor for size in op.reads),
            tuple(size * factor for size in op.writes),
            op.calls,
        )
        for op in work
    ]
    seconds = roofline(work, ROUND_GPU).lower_bound_seconds
    assert roofline(larger, ROUND_GPU).lower_bound_seconds == pytest.approx(factor * seconds, rel=1e-12)


@given(tables)
def test_the_bound_is_never_below_either_limit_of_the_whole(work: OperatorTable) -> None:
    bound = roofline(work, ROUND_GPU)
    arithmetic = sum(
        Fraction(op.flops * op.calls, 10**13 if op.dtype == "float32" else 10**14) for op in work if op.flops
    )
    memory = Fraction(work.bytes_moved, 10**12)
    assert bound.lower_bound_seconds >= max(arithmetic, memory) * (1 - Fraction(1, 10**12))
    assert bound.lower_bound_seconds <= (arithmetic + memory) * (1 + Fraction(1, 10**12))
    for parts in (bound.phases, bound.kinds):
        assert sum(part.lower_bound_seconds for part in parts) == pytest.approx(bound.lower_bound_seconds, rel=1e-12)
        assert sum(part.flops for part in parts) == work.flops
        assert sum(part.bytes_moved for part in parts) == work.bytes_moved
