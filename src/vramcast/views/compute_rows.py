"""What every view shows of times and costs, as plain rows: numbers as text, each with what it means."""

from dataclasses import dataclass

from vramcast.compute import GenerationTime, Roofline, RunCost, StepFlops, TrainingTime
from vramcast.units import format_bytes

LOWER_BOUND_MEANING = "100 % of the data sheet, operators one by one; a real run takes longer"
_PREFIXES = ((10**21, "Z"), (10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_SPANS = ((365.25 * 86400, 730 * 86400, "years"), (86400, 48 * 3600, "days"), (3600, 7200, "h"), (60, 120, "min"))
"""(seconds of the unit, shortest time that is told in it, name)."""

Row = tuple[str, str, str]
"""(what, how much, what it means)."""


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One phase of the lower bound."""

    name: str
    time: str
    share: float
    """Of the lower bound, 0 to 1."""


def training_rows(time: TrainingTime) -> list[Row]:
    """One optimizer step: FLOPs, bytes, the bound and, if it was asked for, the time at an MFU."""
    rows = [
        ("FLOPs per step", format_flops(time.flops_per_step.total), _flops_split(time.flops_per_step)),
        ("model FLOPs", format_flops(time.model_flops_per_step), "nothing computed twice: what MFU counts"),
        ("bytes moved", format_bytes(time.bytes_moved_per_step), "GPU memory read and written, at the least"),
        ("at least", f"{format_seconds(time.lower_bound_seconds_per_step)} per step", LOWER_BOUND_MEANING),
        ("at most", _speed(time.highest_tokens_per_second), f"MFU {time.mfu_of_lower_bound:.3g}"),
    ]
    if time.mfu is None or time.seconds_per_step is None or time.tokens_per_second is None:
        return rows
    peak = f"of {format_flops(time.peak_flops_per_second)}/s {time.peak_dtype}, {_speed(time.tokens_per_second)}"
    return [*rows, (f"at MFU {time.mfu:g}", f"{format_seconds(time.seconds_per_step)} per step", peak)]


def run_rows(time: TrainingTime) -> list[Row]:
    """The whole training, if its length was given."""
    rows = []
    if time.lower_bound_run is not None:
        rows.append(_run_row("whole run, at least", time.lower_bound_run))
    if time.run is not None:
        rows.append(_run_row(f"whole run, at MFU {time.mfu:g}", time.run))
    return rows


def generation_rows(time: GenerationTime) -> list[Row]:
    """Prefill and decode steps at the lower bound."""
    prefill = time.prefill
    rows = [
        (
            "prefill, at least",
            format_seconds(prefill.lower_bound_seconds),
            f"{format_flops(prefill.flops)}; {limits_line(prefill)}",
        )
    ]
    first, last, mean = time.first_decode_step, time.last_decode_step, time.mean_decode_step_lower_bound_seconds
    if first is not None and last is not None and mean is not None:
        rows += [
            _decode_row("first decode step, at least", first),
            _decode_row("last decode step, at least", last),
            ("mean decode step, at least", format_seconds(mean), f"of {time.decode_steps:,} steps"),
        ]
    rows.append(("all, at least", format_seconds(time.lower_bound_seconds), LOWER_BOUND_MEANING))
    if time.highest_tokens_per_second is not None and time.highest_tokens_per_second_per_sequence is not None:
        each = f"{_speed(time.highest_tokens_per_second_per_sequence)} for each sequence"
        rows.append(("decoding, at most", _speed(time.highest_tokens_per_second), each))
    return [*rows, ("with prefill, at most", _speed(time.highest_tokens_per_second_with_prefill), "")]


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


def _run_row(name: str, run: RunCost) -> Row:
    cost = "" if run.cost is None else f", cost {run.cost:,.2f}"
    return (
        name,
        format_seconds(run.seconds),
        f"{run.steps:,} steps, {run.tokens:,} tokens, {run.gpu_hours:,.2f} GPU-hours{cost}",
    )


def _decode_row(name: str, step: Roofline) -> Row:
    return (
        name,
        format_seconds(step.lower_bound_seconds),
        f"{format_bytes(step.bytes_moved)} moved; {limits_line(step)}",
    )


def _flops_split(flops: StepFlops) -> str:
    phases = {name: getattr(flops, name) for name in StepFlops.model_fields}
    return ", ".join(f"{name} {count / flops.total:.1%}" for name, count in phases.items() if count)


def _speed(tokens_per_second: float) -> str:
    digits = 0 if tokens_per_second >= 100 else 2
    return f"{tokens_per_second:,.{digits}f} tokens/s"
