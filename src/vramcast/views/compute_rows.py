"""What every view shows of times and costs, as plain rows: numbers as text, each bound below what it is a bound of."""

from collections.abc import Iterator
from dataclasses import dataclass

from vramcast.compute import GenerationTime, PublishedRuns, Roofline, RunCost, StepFlops, TrainingTime
from vramcast.units import format_bytes

_PREFIXES = ((10**21, "Z"), (10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_SPANS = ((365.25 * 86400, 730 * 86400, "years"), (86400, 48 * 3600, "days"), (3600, 7200, "h"), (60, 120, "min"))
"""(seconds of the unit, shortest time that is told in it, name)."""

Row = tuple[str, str, str]
"""(what, how much, what it means)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows below what they hold for."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One phase of the lower bound."""

    name: str
    time: str
    share: float
    """Of the lower bound, 0 to 1."""


def training_rows(time: TrainingTime) -> list[Row]:
    """What one optimizer step computes and moves."""
    return [
        ("FLOPs per step", format_flops(time.flops_per_step.total), _flops_split(time.flops_per_step)),
        ("model FLOPs", format_flops(time.model_flops_per_step), "nothing computed twice: what MFU counts"),
        ("bytes moved", format_bytes(time.bytes_moved_per_step), "GPU memory read and written, at the least"),
    ]


def training_blocks(time: TrainingTime) -> list[Block]:
    """The two bounds and, if it was asked for, the time at an MFU; each of one step and of the whole run, if its length was given."""
    eager_speed = f"{_at_most(time.highest_tokens_per_second)}, MFU {time.mfu_of_lower_bound:.3g}"
    eager = ("one step", _at_least(time.lower_bound_seconds_per_step), eager_speed)
    anyhow = time.any_implementation
    least = ("one step", _at_least(anyhow.lower_bound_seconds_per_step), _at_most(anyhow.highest_tokens_per_second))
    blocks = [
        Block(_bound_of(time.lower_bound_of), (eager, *_run_rows(time.lower_bound_run))),
        Block(_bound_of(anyhow.lower_bound_of), (least, *_run_rows(anyhow.lower_bound_run))),
    ]
    if time.mfu is None or time.seconds_per_step is None or time.tokens_per_second is None:
        return blocks
    peak = f"{format_flops(time.peak_flops_per_second)}/s {time.peak_dtype}"
    step = ("one step", format_seconds(time.seconds_per_step), _speed(time.tokens_per_second))
    return [*blocks, Block(f"at an MFU of {time.mfu:g} of {peak}: your assumption", (step, *_run_rows(time.run)))]


def generation_blocks(time: GenerationTime) -> list[Block]:
    """The two bounds, each of prefill, decode steps and all of it."""
    return [
        Block(_bound_of(time.lower_bound_of), tuple(_eager_generation_rows(time))),
        Block(_bound_of(time.any_implementation.lower_bound_of), tuple(_any_generation_rows(time))),
    ]


def published_line(runs: PublishedRuns) -> str:
    """Experience, told beside the bounds and in none of them."""
    return (
        f"published runs take longer: {runs.median_over_lower_bound:g} times the first bound, the median of {runs.runs} {runs.what} "
        f"(8 in 10: {runs.p10_over_lower_bound:g} to {runs.p90_over_lower_bound:g} times); in no figure above"
    )


def phase_rows(roofline: Roofline) -> list[ShareRow]:
    """The lower bound by phase, in order of appearance; phases without work on the GPU are left out."""
    total = roofline.lower_bound_seconds
    return [
        ShareRow(part.name, format_seconds(part.lower_bound_seconds), part.lower_bound_seconds / total)
        for part in roofline.phases
        if part.lower_bound_seconds
    ]


def limits_line(roofline: Roofline) -> str:
    """`limited by compute for 84 %, by memory bandwidth for 16 % of the time`."""
    compute = roofline.compute_limited_seconds / roofline.lower_bound_seconds
    return f"limited by compute for {compute:.0%}, by memory bandwidth for {1 - compute:.0%} of the time"


def format_flops(flops: float) -> str:
    """`5.87 TFLOP`, with decimal prefixes as vendors use them."""
    for factor, prefix in _PREFIXES:
        if flops >= factor:
            return f"{flops / factor:.2f} {prefix}FLOP"
    return f"{flops:.0f} FLOP"


def format_seconds(seconds: float) -> str:
    """Text in the unit that people would use: `38.1 ms`, `95.0 s`, `3.2 h`, `132.2 days`, `18.1 years`."""
    for length, shortest, name in _SPANS:
        if seconds >= shortest:
            return f"{seconds / length:.1f} {name}"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} µs"


def _bound_of(what: str) -> str:
    return f"bound at 100 % of the data sheet of {what}"


def _eager_generation_rows(time: GenerationTime) -> Iterator[Row]:
    yield _interval_row("prefill", time.prefill, format_flops(time.prefill.flops))
    for name, step in (("first decode step", time.first_decode_step), ("last decode step", time.last_decode_step)):
        if step is not None:
            yield _interval_row(name, step, f"{format_bytes(step.bytes_moved)} moved")
    if time.mean_decode_step_lower_bound_seconds is not None:
        yield _mean_row(time.mean_decode_step_lower_bound_seconds, time)
        each = f"{_at_most(time.highest_tokens_per_second_per_sequence)} for each sequence"
        yield ("decoding", _at_most(time.highest_tokens_per_second), each)
    yield _all_row(time.lower_bound_seconds, time.highest_tokens_per_second_with_prefill)


def _any_generation_rows(time: GenerationTime) -> Iterator[Row]:
    anyhow = time.any_implementation
    yield ("prefill", _at_least(anyhow.prefill_lower_bound_seconds), "")
    if anyhow.mean_decode_step_lower_bound_seconds is not None:
        yield _mean_row(anyhow.mean_decode_step_lower_bound_seconds, time)
        yield ("decoding", _at_most(anyhow.highest_tokens_per_second), "")
    yield _all_row(anyhow.lower_bound_seconds, anyhow.highest_tokens_per_second_with_prefill)


def _mean_row(seconds: float, time: GenerationTime) -> Row:
    return ("mean decode step", _at_least(seconds), f"of {time.decode_steps:,} steps")


def _run_rows(run: RunCost | None) -> tuple[Row, ...]:
    """A run made from a bound says so at each of its figures: they are read one by one."""
    if run is None:
        return ()
    least = "at least " if run.at_least else ""
    cost = "" if run.cost is None else f", cost {least}{run.cost:,.2f}"
    amount = f"{run.steps:,} steps, {run.tokens:,} tokens, {least}{run.gpu_hours:,.2f} GPU-hours{cost}"
    return (("whole run", f"{least}{format_seconds(run.seconds)}", amount),)


def _interval_row(name: str, bound: Roofline, work: str) -> Row:
    return (name, _at_least(bound.lower_bound_seconds), f"{work}; {limits_line(bound)}")


def _all_row(seconds: float, tokens_per_second: float | None) -> Row:
    return ("all", _at_least(seconds), f"{_at_most(tokens_per_second)} with prefill")


def _at_least(seconds: float) -> str:
    return f"at least {format_seconds(seconds)}"


def _at_most(tokens_per_second: float | None) -> str:
    """None: the bound holds nothing that takes time."""
    return "any speed" if tokens_per_second is None else f"at most {_speed(tokens_per_second)}"


def _flops_split(flops: StepFlops) -> str:
    phases = {name: getattr(flops, name) for name in StepFlops.model_fields}
    return ", ".join(f"{name} {count / flops.total:.1%}" for name, count in phases.items() if count)


def _speed(tokens_per_second: float) -> str:
    digits = 0 if tokens_per_second >= 100 else 2
    return f"{tokens_per_second:,.{digits}f} tokens/s"
