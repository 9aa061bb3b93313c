"""Least times of a generation: the two ends are read off their tables, the mean is exact for linear figures and never too high."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_tables import ROUND_GPU, matmul, pointwise, table

from vramcast.compute import decode_time, operator_bound
from vramcast.compute.decode_time import mean_step_seconds
from vramcast.errors import InputError
from vramcast.hardware import custom_gpu
from vramcast.job import GenerationJob
from vramcast.timeline import Operator
from vramcast.units import GIB

WEIGHTS = matmul(10**9, read=10**9, written=10**6, phase="decode")
PREFILL = table(matmul(10**12, read=10**9, phase="prefill"))


def cache_read(nbytes: int) -> Operator:
    return pointwise(nbytes, 0, name="cat", phase="decode", module="h.0.attn")


def a_job(new_tokens: int, batch_size: int = 4) -> GenerationJob:
    return GenerationJob(model="gpt2", prompt_length=100, max_new_tokens=new_tokens, batch_size=batch_size)


def test_a_generation_by_hand() -> None:
    tables = {
        "prefill": PREFILL,
        "first_decode_step": table(WEIGHTS, cache_read(10**8)),
        "last_decode_step": table(WEIGHTS, cache_read(3 * 10**8)),
    }
    time = decode_time(tables, ROUND_GPU, a_job(101))
    assert time.prefill.lower_bound_seconds == 0.01
    assert time.first_decode_step is not None and time.last_decode_step is not None
    assert time.first_decode_step.lower_bound_seconds == pytest.approx(1.101e-3)
    assert time.last_decode_step.lower_bound_seconds == pytest.approx(1.301e-3)
    assert time.mean_decode_step_lower_bound_seconds == pytest.approx(1.201e-3)
    assert time.decode_steps == 100
    assert time.lower_bound_seconds == pytest.approx(0.01 + 100 * 1.201e-3)
    assert time.highest_tokens_per_second_per_sequence == pytest.approx(1 / 1.201e-3)
    assert time.highest_tokens_per_second == pytest.approx(4 / 1.201e-3)
    assert time.highest_tokens_per_second_with_prefill == pytest.approx(404 / (0.01 + 100 * 1.201e-3))


def test_one_token_comes_from_the_prefill_alone() -> None:
    time = decode_time({"prefill": PREFILL}, ROUND_GPU, a_job(1))
    assert time.lower_bound_seconds == 0.01
    assert time.decode_steps == 0
    assert (time.first_decode_step, time.highest_tokens_per_second) == (None, None)
    assert time.highest_tokens_per_second_with_prefill == 400
    assert json.loads(json.dumps(time.to_dict(), allow_nan=False))["new_tokens"] == 1


@given(
    first_flops=st.integers(1, 10**12),
    first_bytes=st.integers(1, 10**10),
    flops_growth=st.integers(0, 10**10),
    bytes_growth=st.integers(0, 10**8),
    steps=st.integers(1, 30),
)
def test_the_mean_is_never_above_the_true_mean_of_the_steps(
    first_flops: int, first_bytes: int, flops_growth: int, bytes_growth: int, steps: int
) -> None:
    def at(step: int) -> list[Operator]:
        grown = matmul(
            first_flops + step * flops_growth, read=first_bytes + step * bytes_growth, module="h.0", phase="decode"
        )
        return [grown, replace(WEIGHTS, module="h.1")]

    seconds = [sum(operator_bound(operator, ROUND_GPU).seconds for operator in at(step)) for step in range(steps)]
    mean = mean_step_seconds(at(0), at(steps - 1), ROUND_GPU)
    assert mean <= sum(seconds) / steps * (1 + 1e-12)
    sides = {operator_bound(at(step)[0], ROUND_GPU).limited_by_compute for step in range(steps)}
    if len(sides) == 1:
        assert mean == pytest.approx(sum(seconds) / steps, rel=1e-12)


def test_an_interval_that_was_not_recorded_is_named() -> None:
    with pytest.raises(InputError, match=r"operators='prefill': .*'first_decode_step'"):
        decode_time({"prefill": PREFILL}, ROUND_GPU, a_job(2))
    with pytest.raises(InputError, match=r"operators='none': .*'prefill'"):
        decode_time({}, ROUND_GPU, a_job(2))


def test_a_custom_gpu_has_no_speed() -> None:
    with pytest.raises(InputError, match=r"gpu='custom'"):
        decode_time({"prefill": PREFILL}, custom_gpu(24 * GIB), a_job(1))
