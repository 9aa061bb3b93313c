"""Times are shown with what they mean: a bound is called a bound, an MFU says of what."""

import io

import pytest
from rich.console import Console, RenderableType

from vramcast.compute import TimeOptions, TrainingTime, decode_time, training_time
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.timeline import Operator, OperatorTable
from vramcast.views.compute_rows import (
    LOWER_BOUND_MEANING,
    format_flops,
    format_seconds,
    limits_line,
    phase_rows,
    run_rows,
    training_rows,
)
from vramcast.views.compute_terminal import generation_time_renderable, training_time_renderable

STEP = OperatorTable(
    (
        Operator("mm", "matmul", "forward", "h", "bfloat16", (1, 1, 1, 1), flops=312 * 10**9),
        Operator("mm", "matmul", "backward", "h", "bfloat16", (1, 1, 1, 1), flops=312 * 10**9, calls=2),
        Operator("add_", "pointwise", "optimizer", "", "float32", reads=(2039 * 10**6,), writes=(0,)),
    )
)


def a_time(**options: object) -> TrainingTime:
    job = TrainingJob(model="gpt2", sequence_length=1000, precision="bf16")
    return training_time(STEP, find_gpu("a100-80gb"), job, TimeOptions(**options))  # type: ignore[arg-type]


def printed(renderable: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(renderable)
    return out.getvalue()


def test_rows_of_a_step() -> None:
    assert training_rows(a_time()) == [
        ("FLOPs per step", "936.00 GFLOP", "forward 33.3%, backward 66.7%"),
        ("model FLOPs", "936.00 GFLOP", "nothing computed twice: what MFU counts"),
        ("bytes moved", "1.90 GiB", "GPU memory read and written, at the least"),
        ("at least", "4.00 ms per step", LOWER_BOUND_MEANING),
        ("at most", "250,000 tokens/s", "MFU 0.75"),
    ]
    assert run_rows(a_time()) == []


def test_rows_at_an_mfu_and_of_a_run() -> None:
    time = a_time(mfu=0.5, steps=600_000, price_per_gpu_hour=2.0)
    assert training_rows(time)[-1] == ("at MFU 0.5", "6.00 ms per step", "of 312.00 TFLOP/s bf16, 166,667 tokens/s")
    assert run_rows(time) == [
        ("whole run, at least", "40.0 min", "600,000 steps, 600,000,000 tokens, 0.67 GPU-hours, cost 1.33"),
        ("whole run, at MFU 0.5", "60.0 min", "600,000 steps, 600,000,000 tokens, 1.00 GPU-hours, cost 2.00"),
    ]


def test_limits_and_phases_are_shares_of_the_bound() -> None:
    roofline = a_time().roofline
    assert limits_line(roofline) == "limited by compute for 75%, by memory bandwidth for 25% of the time"
    assert [(row.name, row.time, row.share) for row in phase_rows(roofline)] == [
        ("forward", "1.00 ms", 0.25),
        ("backward", "2.00 ms", 0.5),
        ("optimizer", "1.00 ms", 0.25),
    ]


def test_the_block_on_the_terminal() -> None:
    text = printed(training_time_renderable(a_time(mfu=0.9)))
    assert text.startswith("time on one a100-80gb: sequences per step 1, tokens per step 1,000\n")
    assert LOWER_BOUND_MEANING in text
    assert {line.split()[0]: line.count("█") for line in text.splitlines() if "█" in line} == {
        "forward": 8,
        "backward": 16,
        "optimizer": 8,
    }
    assert "· an MFU of 0.9 is faster than the lower bound" in text


def test_a_generation_on_the_terminal() -> None:
    weights = Operator("mm", "matmul", "decode", "h", "bfloat16", (1, 1, 1, 1), 1, reads=(2039 * 10**6,))
    tables = {name: OperatorTable((weights,)) for name in ("prefill", "first_decode_step", "last_decode_step")}
    job = GenerationJob(model="gpt2", max_new_tokens=11, batch_size=2)
    text = printed(generation_time_renderable(decode_time(tables, find_gpu("a100-80gb"), job)))
    assert "mean decode step, at least" in text and "of 10 steps" in text
    assert "2,000 tokens/s" in text and "1,000 tokens/s for each sequence" in text
    assert LOWER_BOUND_MEANING in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.2e-6, "4.20 µs"),
        (0.0381, "38.10 ms"),
        (95, "95.00 s"),
        (3 * 3600, "3.0 h"),
        (11418005.37, "132.2 days"),
        (18.02 * 365.25 * 86400, "18.0 years"),
    ],
)
def test_seconds_as_text(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("flops", "text"), [(0, "0 FLOP"), (999, "999 FLOP"), (1.11325552e20, "111.33 EFLOP")])
def test_flops_as_text(flops: float, text: str) -> None:
    assert format_flops(flops) == text
