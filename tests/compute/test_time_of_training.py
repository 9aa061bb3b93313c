"""Time of a step and of a run against sums worked by hand; what is asked wrongly is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_tables import ROUND_GPU, attention, matmul, pointwise, step_table, table
from pydantic import ValidationError

from vramcast.compute import TimeOptions, model_flops, run_cost, seconds_at_mfu, training_time
from vramcast.errors import InputError
from vramcast.hardware import custom_gpu, find_gpu
from vramcast.job import TrainingJob
from vramcast.job.checking import checked_job
from vramcast.timeline import OperatorTable
from vramcast.units import GIB


def a_job(**changes: Any) -> TrainingJob:
    return TrainingJob(**{"model": "gpt2", "sequence_length": 1000, "precision": "bf16"} | changes)


def test_a_step_by_hand() -> None:
    time = training_time(step_table(), ROUND_GPU, a_job())
    flops = time.flops_per_step
    assert (flops.forward, flops.backward, flops.recompute, flops.optimizer, flops.other) == (
        10**12,
        2 * 10**12,
        10**12,
        0,
        0,
    )
    assert flops.total == 4 * 10**12
    assert time.model_flops_per_step == 3 * 10**12
    assert time.bytes_moved_per_step == 3 * 10**9
    assert time.tokens_per_step == 1000
    assert time.lower_bound_seconds_per_step == pytest.approx(0.043)
    assert time.any_implementation.lower_bound_seconds_per_step == pytest.approx(0.040)
    assert time.any_implementation.highest_tokens_per_second == pytest.approx(25_000)
    assert time.mfu_of_lower_bound == pytest.approx(3e12 / 0.043 / 100e12)
    assert time.highest_tokens_per_second == pytest.approx(1000 / 0.043)
    assert (time.seconds_per_step, time.tokens_per_second, time.run, time.lower_bound_run) == (None,) * 4


def test_a_run_at_an_mfu_by_hand() -> None:
    options = TimeOptions(mfu=0.5, steps=72_000, price_per_gpu_hour=2.5)
    time = training_time(step_table(), ROUND_GPU, a_job(), options)
    assert time.seconds_per_step == 0.06
    assert time.tokens_per_second == pytest.approx(1000 / 0.06)
    assert time.run is not None
    assert time.run.model_dump() == pytest.approx(
        {
            "steps": 72_000,
            "tokens": 72_000_000,
            "at_least": False,
            "seconds": 4320.0,
            "gpu_hours": 1.2,
            "days": 0.05,
            "cost": 3.0,
        }
    )
    assert time.lower_bound_run is not None
    assert time.lower_bound_run.at_least
    assert time.lower_bound_run.seconds == pytest.approx(0.043 * 72_000)
    least = time.any_implementation.lower_bound_run
    assert least is not None and least.at_least
    assert (least.seconds, least.cost) == pytest.approx((0.040 * 72_000, 2.0))


def test_tokens_take_whole_steps() -> None:
    time = training_time(step_table(), ROUND_GPU, a_job(), TimeOptions(tokens=10_001))
    assert time.lower_bound_run is not None
    assert (time.lower_bound_run.steps, time.lower_bound_run.tokens, time.run) == (11, 11_000, None)


def test_scores_computed_again_in_backward_are_no_model_flops() -> None:
    forward = attention(8, 8, is_causal=True)
    backward = attention(8, 8, is_causal=True, backward=True)
    # forward: two products of 2 * 64 FLOPs; backward: five, of which the first repeats the scores
    assert model_flops([forward, backward]) == (2 + 4) * 2 * 64


def test_tf32_changes_bound_and_peak() -> None:
    fp32 = table(matmul(6 * 10**12, dtype="float32"))
    job = a_job(precision="fp32")
    plain, tf32 = (training_time(fp32, ROUND_GPU, job, TimeOptions(allow_tf32=allow)) for allow in (False, True))
    assert (plain.peak_dtype, plain.lower_bound_seconds_per_step) == ("fp32", 0.6)
    assert (tf32.peak_dtype, tf32.lower_bound_seconds_per_step) == ("tf32", 0.1)
    volta = training_time(fp32, find_gpu("v100-16gb"), job, TimeOptions(allow_tf32=True))
    assert volta.peak_dtype == "fp32"
    assert "no TF32" in volta.notes[0]


@pytest.mark.parametrize("recorded", [1, 2, 3])
@pytest.mark.parametrize("micro_batches", [1, 2, 4, 7])
def test_a_global_batch_repeats_forward_and_backward_but_not_the_optimizer(recorded: int, micro_batches: int) -> None:
    job = a_job(batch_size=2, gradient_accumulation_steps=recorded)
    options = TimeOptions(sequences_per_step=2 * micro_batches)
    time = training_time(step_table(2, recorded), ROUND_GPU, job, options)
    real = training_time(
        step_table(2, micro_batches), ROUND_GPU, a_job(batch_size=2, gradient_accumulation_steps=micro_batches)
    )
    assert time.flops_per_step == real.flops_per_step
    assert time.model_flops_per_step == real.model_flops_per_step
    assert time.tokens_per_step == real.tokens_per_step == 2000 * micro_batches
    # of the sums of gradients only those in proportion are known, never too many
    assert real.bytes_moved_per_step - 3 * 10**8 * (micro_batches - 1) <= time.bytes_moved_per_step
    assert time.bytes_moved_per_step <= real.bytes_moved_per_step


def test_clipping_is_done_once_a_step() -> None:
    clipping = pointwise(10**9, 10**9, name="_foreach_mul_", module="")
    step = table(*step_table(), clipping)
    options = TimeOptions(sequences_per_step=5)
    once = training_time(step, ROUND_GPU, a_job(max_grad_norm=1.0), options)
    assert once.bytes_moved_per_step == 3 * 10**9 + 2 * 10**9
    every = training_time(step, ROUND_GPU, a_job(), options)  # nothing is clipped: it belongs to the forward pass
    assert every.bytes_moved_per_step == 3 * 10**9 + 5 * 2 * 10**9


@given(st.integers(1, 10**6), st.floats(0.001, 1))
def test_the_bound_is_never_above_the_time_at_an_mfu_that_is_possible(read: int, fraction: float) -> None:
    step = table(matmul(10**12), pointwise(read * 10**6, 10**6))
    bound = training_time(step, ROUND_GPU, a_job())
    assert bound.mfu_of_lower_bound <= 1
    mfu = bound.mfu_of_lower_bound * fraction
    time = training_time(step, ROUND_GPU, a_job(), TimeOptions(mfu=mfu))
    assert time.seconds_per_step is not None
    assert time.lower_bound_seconds_per_step <= time.seconds_per_step * (1 + 1e-12)
    assert not time.notes


def test_an_mfu_above_that_of_the_bound_is_noted() -> None:
    time = training_time(step_table(), ROUND_GPU, a_job(), TimeOptions(mfu=0.7))
    assert time.mfu_of_lower_bound < 0.7
    assert "MFU of 0.7 is faster than the lower bound of this code run eagerly" in time.notes[0]
    assert "only fused kernels" in time.notes[0]
    # 3 useful of 4 TFLOPs: a quarter is computed twice, however it is run
    beyond = training_time(step_table(), ROUND_GPU, a_job(), TimeOptions(mfu=0.76))
    assert "faster than any implementation of this job can be (MFU 0.75 at the most)" in beyond.notes[0]


def test_the_answer_is_json() -> None:
    time = training_time(step_table(), ROUND_GPU, a_job(), TimeOptions(mfu=0.5, steps=10))
    answer = json.loads(json.dumps(time.to_dict(), allow_nan=False))
    assert answer["flops_per_step"]["backward"] == 2 * 10**12
    assert answer["run"]["steps"] == 10
    assert answer["roofline"]["phases"][0]["name"] == "forward"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mfu": 0}, r"mfu=0: must be greater than 0"),
        ({"mfu": 40}, r"mfu=40: must be at most 1"),
        ({"mfu": float("nan")}, r"mfu=nan"),
        ({"steps": 0}, r"steps=0: must be at least 1"),
        ({"tokens": 1.5}, r"tokens=1.5: write a whole number"),
        ({"price_per_gpu_hour": -1}, r"price_per_gpu_hour=-1: must be at least 0"),
        ({"price_per_gpu_hour": float("inf")}, r"price_per_gpu_hour=inf: write a number"),
        ({"sequences_per_step": 0}, r"sequences_per_step=0"),
        ({"gpus": 8}, r"gpus=8: no such field"),
    ],
)
def test_options_out_of_range_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError):
        TimeOptions(**fields)
    with pytest.raises(InputError, match=message):
        checked_job(TimeOptions, fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 10, "tokens": 10}, r"tokens=10: steps=10 is given too"),
        ({"price_per_gpu_hour": 2.5}, r"price_per_gpu_hour=2.5: .* give steps or tokens"),
        ({"sequences_per_step": 3}, r"sequences_per_step=3: must be a multiple of batch_size=2"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        training_time(step_table(2), ROUND_GPU, a_job(batch_size=2), TimeOptions(**options))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"sequence_length=None"):
        training_time(step_table(), ROUND_GPU, a_job(sequence_length=None))
    with pytest.raises(InputError, match=r"gpu='custom': its peak rate"):
        training_time(step_table(), custom_gpu(24 * GIB), a_job())
    with pytest.raises(InputError, match=r"operators=0: no matrix product"):
        training_time(OperatorTable(()), ROUND_GPU, a_job())


def test_seconds_at_mfu_checks_its_input() -> None:
    with pytest.raises(InputError, match=r"mfu=0"):
        seconds_at_mfu(1, 1.0, 0)
    with pytest.raises(InputError, match=r"peak_flops_per_second=0"):
        seconds_at_mfu(1, 0, 0.5)


class TestGpt2XlOnOneA100:
    """400 000 steps of 1024 sequences of 1024 tokens, fp32, at half of an A100's 19.5 TFLOP/s."""

    L, D, T, V = 48, 1600, 1024, 50257
    FORWARD = L * (24 * T * D * D + 4 * T * T * D) + 2 * T * D * V

    def test_the_guide_s_own_flops_give_its_own_days(self) -> None:
        one_layer_of_three_matrices = 2 * self.T * self.D * (4 * self.D + 2 * self.T + 3 * 4 * self.D)
        assert one_layer_of_three_matrices == 90_596_966_400
        step = 3 * 1024 * one_layer_of_three_matrices
        seconds = seconds_at_mfu(step, 19.5e12, 0.5)
        run = run_cost(steps=400_000, tokens_per_step=1024 * 1024, seconds_per_step=seconds, at_least=False)
        assert f"{400_000 * step:.8e}" == "1.11325552e+20"
        assert f"{run.seconds:.2f}" == "11418005.37"
        assert int(run.days) == 132

    def test_all_layers_and_the_head_take_fourteen_years(self) -> None:
        step = table(
            matmul(self.FORWARD, dtype="float32"), matmul(self.FORWARD, dtype="float32", phase="backward", calls=2)
        )
        job = TrainingJob(model="gpt2-xl", sequence_length=1024)
        options = TimeOptions(mfu=0.5, steps=400_000, sequences_per_step=1024)
        time = training_time(step, find_gpu("a100-80gb"), job, options)
        assert time.model_flops_per_sequence == 10_520_110_694_400
        assert time.run is not None
        assert time.run.days / 365.25 == pytest.approx(14.00, abs=0.01)
        assert time.run.tokens == 400_000 * 1024 * 1024

    def test_the_guide_s_feed_forward_of_three_matrices_takes_eighteen(self) -> None:
        forward = self.L * 90_596_966_400 + 2 * self.T * self.D * self.V
        seconds = 400_000 * seconds_at_mfu(3 * 1024 * forward, 19.5e12, 0.5)
        assert seconds / 86400 / 365.25 == pytest.approx(18.02, abs=0.01)
