"""The bound for any implementation keeps what all of them have to do, is never above the bound of the code run eagerly, and says so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_tables import ROUND_GPU, attention, matmul, pointwise, table

from vramcast.compute import (
    ANY_IMPLEMENTATION,
    EAGER_RUN,
    TimeOptions,
    decode_time,
    published_runs,
    roofline,
    training_time,
    unavoidable,
)
from vramcast.job import GenerationJob, TrainingJob
from vramcast.timeline import Operator, OperatorTable

BYTES = st.integers(0, 10**11)
PHASES = st.sampled_from(["forward", "backward", "recompute", "optimizer"])


def batched(extents: tuple[int, int, int, int], name: str = "bmm", **changes: object) -> Operator:
    batch, rows, columns, shared = extents
    product = matmul(2 * batch * rows * columns * shared, **changes)
    return replace(product, name=name, extents=extents, reads=(2 * batch * rows * shared, 2 * batch * shared * columns))


sizes = st.tuples(st.integers(1, 64), st.integers(1, 4096), st.integers(1, 4096), st.integers(1, 4096))
made_operators = st.one_of(
    st.builds(matmul, st.integers(0, 10**14), read=BYTES, written=BYTES, phase=PHASES, calls=st.integers(1, 100)),
    st.builds(batched, sizes, st.sampled_from(["bmm", "baddbmm", "_grouped_mm", "mm"]), written=BYTES, phase=PHASES),
    st.builds(pointwise, BYTES, BYTES, st.sampled_from(["mul", "cat", "copy_", "_softmax"]), phase=PHASES),
    st.builds(
        attention, st.integers(1, 4096), st.integers(1, 4096), is_causal=st.booleans(), backward=st.booleans()
    ).map(lambda operator: replace(operator, reads=(10**6, 10**7, 10**7), writes=(10**6,))),
)
made_tables = st.lists(made_operators, max_size=12).map(OperatorTable.of)


@given(made_tables, st.integers(1, 10**4))
def test_a_training_is_never_bound_higher_than_run_eagerly(work: OperatorTable, tokens: int) -> None:
    step = table(*work, matmul(10**9, read=10**6))
    job = TrainingJob(model="gpt2", sequence_length=tokens, precision="bf16")
    time = training_time(step, ROUND_GPU, job, TimeOptions(steps=7, price_per_gpu_hour=2.0))
    least = time.any_implementation
    assert 0 < least.lower_bound_seconds_per_step <= time.lower_bound_seconds_per_step * (1 + 1e-12)
    assert least.highest_tokens_per_second is not None
    assert least.highest_tokens_per_second * (1 + 1e-12) >= time.highest_tokens_per_second
    assert least.lower_bound_run is not None and time.lower_bound_run is not None
    assert (least.lower_bound_run.cost or 0) <= (time.lower_bound_run.cost or 0) * (1 + 1e-12)
    assert (least.lower_bound_run.at_least, time.lower_bound_run.at_least) == (True, True)


@given(made_tables, made_tables, made_tables, st.integers(1, 100))
def test_a_generation_is_never_bound_higher_than_run_eagerly(
    prefill: OperatorTable, first: OperatorTable, last: OperatorTable, new_tokens: int
) -> None:
    weights = matmul(10**9, read=10**6)
    tables = {"prefill": prefill, "first_decode_step": first, "last_decode_step": last}
    job = GenerationJob(model="gpt2", prompt_length=10, max_new_tokens=new_tokens, batch_size=3)
    time = decode_time({name: table(*each, weights) for name, each in tables.items()}, ROUND_GPU, job)
    least, mean = time.any_implementation, time.mean_decode_step_lower_bound_seconds
    assert least.lower_bound_seconds <= time.lower_bound_seconds * (1 + 1e-12)
    assert least.prefill_lower_bound_seconds <= time.prefill.lower_bound_seconds * (1 + 1e-12)
    assert (least.mean_decode_step_lower_bound_seconds is None) == (mean is None) == (new_tokens == 1)
    if mean is not None and least.mean_decode_step_lower_bound_seconds is not None:
        assert least.mean_decode_step_lower_bound_seconds <= mean * (1 + 1e-12)


@given(made_tables, st.integers(1, 10**6))
def test_no_operator_is_made_more_than_it_was(work: OperatorTable, tokens: int) -> None:
    kept = unavoidable(work, tokens=tokens)
    assert kept.flops <= work.flops
    assert kept.bytes_moved <= work.bytes_moved
    assert {operator.kind for operator in kept} <= {"matmul", "attention"}


def test_products_with_weights_alone_are_bound_alike() -> None:
    products = table(matmul(10**12, read=10**9, written=10**8), matmul(1, read=10**10, phase="backward", calls=3))
    assert unavoidable(products, tokens=1) == products


def test_a_decode_step_by_hand() -> None:
    # Weights and cache are read, 11 ms; the cache is copied (4 GB read and written, 4 ms) by transformers alone.
    cache = replace(attention(1, 1000, is_causal=False), phase="decode", reads=(0, 10**9, 10**9), writes=(0,))
    step = table(matmul(1, read=9 * 10**9, phase="decode"), cache, pointwise(2 * 10**9, 2 * 10**9, name="cat"))
    job = GenerationJob(model="gpt2", prompt_length=100, max_new_tokens=11, batch_size=4)
    tables = {"prefill": table(matmul(10**12, read=1)), "first_decode_step": step, "last_decode_step": step}
    time = decode_time(tables, ROUND_GPU, job)
    assert (time.lower_bound_of, time.any_implementation.lower_bound_of) == (EAGER_RUN, ANY_IMPLEMENTATION)
    assert time.lower_bound_seconds == pytest.approx(0.01 + 10 * 0.015)
    least = time.any_implementation
    assert least.mean_decode_step_lower_bound_seconds == pytest.approx(0.011)
    assert least.lower_bound_seconds == pytest.approx(0.01 + 10 * 0.011)
    assert least.highest_tokens_per_second == pytest.approx(4 / 0.011)
    assert least.highest_tokens_per_second_with_prefill == pytest.approx(44 / 0.12)


@pytest.mark.parametrize(
    ("operator", "flops", "moved"),
    [
        # Scores of 32 heads of 1000 tokens: a fused kernel stores none of them and skips what the mask hides.
        (batched((32, 1000, 1000, 128), written=64 * 10**6), None, None),
        (batched((32, 1, 128, 1000), written=8192, phase="decode"), None, None),
        (batched((1, 5, 7, 3), written=70, name="bmm"), None, None),
        # Four experts gathered for two tokens: each token's two differ, both tokens may have chosen the same two.
        (batched((4, 256, 1, 64), written=2048, phase="decode"), 2 * 4 * 256 * 64, 2 * 2 * 256 * 64),
        # Experts of many tokens: every product is done, which weights are read is not known.
        (batched((1, 1000, 256, 64), written=10**6, name="_grouped_mm"), 2 * 1000 * 256 * 64, 0),
        (batched((1, 1000, 256, 64), written=10**6, name="addmm"), 2 * 1000 * 256 * 64, 2 * 64 * 1256 + 10**6),
        (pointwise(10**9, 10**9, name="cat"), None, None),
    ],
    ids=["scores", "keys of a query", "one head", "gathered experts", "grouped experts", "weights", "cache copy"],
)
def test_what_is_kept_of_an_operator(operator: Operator, flops: int | None, moved: int | None) -> None:
    kept = unavoidable([operator], tokens=2)
    assert (kept.flops or None, kept.bytes_moved if kept.operators else None) == (flops, moved)


@pytest.mark.parametrize(
    ("operator", "reads", "is_kept"),
    [
        (attention(8, 8, is_causal=True), 3, True),
        (attention(8, 8, is_causal=True, backward=True), 6, True),
        (attention(1, 8, is_causal=False), 3, True),
        (attention(1, 8, is_causal=False), 4, False),  # a mask: keys behind a window, or repeated for every head
        (attention(8, 8, is_causal=False), 4, False),
    ],
)
def test_attention_is_kept_where_its_pairs_are_certain(operator: Operator, reads: int, is_kept: bool) -> None:
    operator = replace(operator, reads=(64,) * reads)
    assert unavoidable([operator], tokens=8).operators == ((operator,) if is_kept else ())


def test_nothing_certain_is_no_speed() -> None:
    step = table(batched((2, 10, 10, 10)))
    time = training_time(step, ROUND_GPU, TrainingJob(model="gpt2", sequence_length=10, precision="bf16"))
    least = time.any_implementation
    assert (least.lower_bound_seconds_per_step, least.highest_tokens_per_second) == (0, None)
    assert roofline(unavoidable(step, tokens=10), ROUND_GPU).lower_bound_seconds == 0


def test_published_runs_stand_beside_the_bound_and_in_no_figure() -> None:
    step = table(matmul(10**12))
    job = TrainingJob(model="gpt2", sequence_length=10, precision="bf16")
    time = training_time(step, ROUND_GPU, job, TimeOptions(steps=360_000, price_per_gpu_hour=1.0))
    assert (time.published_runs.median_over_lower_bound, time.published_runs.runs) == (1.75, 490)
    assert time.lower_bound_run is not None and time.lower_bound_run.cost == pytest.approx(1.0)
    decoding = published_runs("generation")
    assert (decoding.median_over_lower_bound, decoding.runs) == (3.03, 118)
