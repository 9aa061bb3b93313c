"""Times are shown with what they mean: a bound is called a bound, an MFU says of what."""

import io

import pytest
from rich.console import Console, RenderableType

from vramcast.compute import GenerationTime, TimeOptions, TrainingTime, decode_time, training_time
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.timeline import Operator, OperatorTable
from vramcast.views.compute_rows import (
    Block,
    format_flops,
    format_seconds,
    generation_blocks,
    limits_line,
    phase_rows,
    published_line,
    training_blocks,
    training_rows,
)
from vramcast.views.compute_terminal import generation_time_renderable, training_time_renderable

EAGER = "bound at 100 % of the data sheet of this code run eagerly (PyTorch, one kernel per operator)"
ANY = (
    "bound at 100 % of the data sheet of any implementation (compiled, fused, serving engines): "
    "matrix products and attention only"
)
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


def a_generation(new_tokens: int = 11) -> GenerationTime:
    weights = Operator("mm", "matmul", "decode", "h", "bfloat16", (1, 1, 1, 1), 1, reads=(2039 * 10**6,))
    copy = Operator("cat", "copy", "decode", "h", "bfloat16", reads=(2039 * 10**6,))
    tables = {"prefill": OperatorTable((weights,))}
    tables |= {name: OperatorTable((weights, copy)) for name in ("first_decode_step", "last_decode_step")}
    job = GenerationJob(model="gpt2", max_new_tokens=new_tokens, batch_size=2)
    return decode_time(tables, find_gpu("a100-80gb"), job)


def test_a_step_says_what_each_bound_is_a_bound_of() -> None:
    assert training_rows(a_time()) == [
        ("FLOPs per step", "936.00 GFLOP", "forward 33.3%, backward 66.7%"),
        ("model FLOPs", "936.00 GFLOP", "nothing computed twice: what MFU counts"),
        ("bytes moved", "1.90 GiB", "GPU memory read and written, at the least"),
    ]
    assert training_blocks(a_time()) == [
        Block(EAGER, (("one step", "at least 4.00 ms", "at most 250,000 tokens/s, MFU 0.75"),)),
        Block(ANY, (("one step", "at least 3.00 ms", "at most 333,333 tokens/s"),)),
    ]


def test_time_and_cost_of_a_run_are_at_least_so_much_where_made_from_a_bound() -> None:
    eager, anyhow, mfu = training_blocks(a_time(mfu=0.5, steps=600_000, price_per_gpu_hour=2.0))
    steps = "600,000 steps, 600,000,000 tokens"
    assert eager.rows[1] == ("whole run", "at least 40.0 min", f"{steps}, at least 0.67 GPU-hours, cost at least 1.33")
    assert anyhow.rows[1] == ("whole run", "at least 30.0 min", f"{steps}, at least 0.50 GPU-hours, cost at least 1.00")
    assert mfu == Block(
        "at an MFU of 0.5 of 312.00 TFLOP/s bf16: your assumption",
        (
            ("one step", "6.00 ms", "166,667 tokens/s"),
            ("whole run", "60.0 min", f"{steps}, 1.00 GPU-hours, cost 2.00"),
        ),
    )


def test_published_runs_are_told_with_how_many_they_are() -> None:
    assert published_line(a_time().published_runs) == (
        "published runs take longer: 1.75 times the first bound, the median of 490 trainings run eagerly "
        "(8 in 10: 1.28 to 3.09 times); in no figure above"
    )
    assert "3.03 times the first bound, the median of 118 generations" in published_line(a_generation().published_runs)


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
    for line in (EAGER, ANY, "at an MFU of 0.9 of 312.00 TFLOP/s bf16: your assumption"):
        assert f"\n{line}\n" in text
    assert "published runs take longer: 1.75 times" in text
    assert (
        len({line.index("at ") for line in text.splitlines() if line.startswith("one step") and "at least" in line})
        == 1
    )
    assert {line.split()[0]: line.count("█") for line in text.splitlines() if "█" in line} == {
        "forward": 8,
        "backward": 16,
        "optimizer": 8,
    }
    assert "· an MFU of 0.9 is faster than the lower bound" in text


def test_a_generation_says_what_each_bound_is_a_bound_of() -> None:
    eager, anyhow = generation_blocks(a_generation())
    assert (eager.title, anyhow.title) == (EAGER, ANY)
    assert ("mean decode step", "at least 2.00 ms", "of 10 steps") in eager.rows
    assert ("decoding", "at most 1,000 tokens/s", "at most 500 tokens/s for each sequence") in eager.rows
    assert ("all", "at least 21.00 ms", "at most 1,048 tokens/s with prefill") in eager.rows
    assert anyhow.rows == (
        ("prefill", "at least 1.00 ms", ""),
        ("mean decode step", "at least 1.00 ms", "of 10 steps"),
        ("decoding", "at most 2,000 tokens/s", ""),
        ("all", "at least 11.00 ms", "at most 2,000 tokens/s with prefill"),
    )


def test_one_token_has_no_decode_step() -> None:
    assert [[row[0] for row in block.rows] for block in generation_blocks(a_generation(1))] == [["prefill", "all"]] * 2


def test_a_generation_on_the_terminal() -> None:
    text = printed(generation_time_renderable(a_generation()))
    assert f"\n{EAGER}\n" in text and f"\n{ANY}\n" in text
    assert "published runs take longer: 3.03 times" in text


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
