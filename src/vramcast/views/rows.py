"""What every view shows, as plain rows: words for the fields of a forecast, sizes as text, in one place."""

from dataclasses import dataclass

from vramcast.forecast import Forecast
from vramcast.units import format_figures, format_gib, format_range

VERDICTS = {"fits": "FITS", "tight": "TIGHT", "does_not_fit": "DOES NOT FIT", "unknown": "NO ANSWER"}
CATEGORY_NAMES = {
    "parameters": "parameters",
    "buffers": "buffers",
    "gradients": "gradients",
    "optimizer_states": "optimizer states",
    "activations": "activations",
    "temporary": "temporary",
    "kv_cache": "KV cache",
    "inputs": "inputs",
    "workspace": "library workspace",
}
INSTANT_NAMES = {
    "after_load": "after load",
    "forward_peak": "peak of forward",
    "after_forward": "after forward",
    "backward_peak": "peak of backward",
    "after_backward": "after backward",
    "optimizer_peak": "peak of optimizer step",
    "after_optimizer": "after optimizer step",
    "after_step": "after zero_grad",
    "prefill_peak": "peak of prefill",
    "after_prefill": "after prefill",
    "decode_peak": "peak of decoding",
    "after_decode": "after the last token",
}
CATEGORY_COLORS = {
    "parameters": "#2e8b57",
    "buffers": "#7fb89a",
    "gradients": "#2f6fb4",
    "optimizer_states": "#d4a017",
    "activations": "#c8442f",
    "temporary": "#8a5aa8",
    "kv_cache": "#1f9aa6",
    "inputs": "#8c8c8c",
    "workspace": "#5f5f5f",
}
"""Hues of torch.profiler's memory timeline (parameter green, gradient blue, optimizer gold, activation red, temporary purple)."""


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One category at the allocated peak."""

    category: str
    name: str
    size: str
    share: float
    """Of the allocated peak, 0 to 1."""


def verdict_line(forecast: Forecast) -> str:
    """`FITS  needs 15.0 to 15.6 GiB of 23.7 GiB (rtx-3090), 8.1 GiB free`."""
    low, high, total = forecast.device_used_bytes_low, forecast.device_used_bytes_high, forecast.gpu_memory_bytes
    needs, verdict = f"needs {format_range(low, high)}", VERDICTS[forecast.verdict]
    if forecast.verdict == "does_not_fit":
        short = f" (short by {format_figures(low - total)})" if low > total else ""
        return f"{verdict}  {needs}, {article(forecast.gpu)} {forecast.gpu} offers {format_gib(total)}{short}"
    of = f"of {format_gib(total)} ({forecast.gpu})"
    if forecast.verdict == "fits":
        return f"{verdict}  {needs} {of}, {format_figures(total - high)} free"
    if forecast.verdict == "tight":
        return f"{verdict}  {needs} {of}, short by {format_figures(max(high - total, 0))} at the worst"
    return f"{verdict}  at least {format_figures(forecast.device_used_bytes)} {of} were in use"


def article(gpu: str) -> str:
    """`an` before a name whose first letter is read with a vowel: an rtx-3090, an a100, an h100; a t4, a v100."""
    return "an" if gpu[:1] in "aehilmnorsx8" else "a"


def peak_rows(forecast: Forecast) -> list[tuple[str, str, str]]:
    """(which peak, size, what to compare it with)."""
    phase = f", in {forecast.peak_phase}" if forecast.peak_phase else ""
    return [
        ("peak allocated", format_gib(forecast.peak_allocated_bytes), f"torch.cuda.max_memory_allocated(){phase}"),
        ("peak reserved", format_gib(forecast.peak_reserved_bytes), "torch.cuda.max_memory_reserved()"),
        ("device used", format_gib(forecast.device_used_bytes), f"nvidia-smi: {device_words(forecast)}"),
    ]


def device_words(forecast: Forecast) -> str:
    """What is used besides reserved memory, and between which ends all of it lies."""
    several = any(part.name == "NCCL" for part in forecast.uncertainty)
    ends = format_range(forecast.device_used_bytes_low, forecast.device_used_bytes_high)
    return f"reserved + CUDA context{' + NCCL' if several else ''}; {ends}"


def uncertainty_rows(forecast: Forecast) -> list[tuple[str, str, str]]:
    """(part, what the estimate may be off by, why)."""
    return [(part.name, _ends(part.low_bytes, part.high_bytes), part.reason) for part in forecast.uncertainty]


def _ends(low: int, high: int) -> str:
    below = f"-{format_figures(-low)}" if low else ""
    above = f"+{format_figures(high)}" if high else ""
    return ", ".join(end for end in (below, above) if end)


def breakdown_rows(forecast: Forecast) -> list[BreakdownRow]:
    """The allocated peak by category, largest first."""
    total = max(forecast.peak_allocated_bytes, 1)
    return [
        BreakdownRow(item.category, CATEGORY_NAMES[item.category], _size(item.bytes), item.bytes / total)
        for item in forecast.breakdown
    ]


def instant_rows(forecast: Forecast) -> list[tuple[str, str]]:
    """(instant, allocated then), in the order of a step."""
    allocated = {instant.name: instant.allocated_bytes for instant in forecast.instants}
    return [(text, _size(allocated[name])) for name, text in INSTANT_NAMES.items() if name in allocated]


def job_line(forecast: Forecast) -> str:
    """The model and the settings that were asked, in one line."""
    settings = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in forecast.settings.items() if value not in (None, False)
    )
    return f"{forecast.workload} of {forecast.model}, {forecast.parameters:,} parameters" + (
        f": {settings}" if settings else ""
    )


def _size(nbytes: int) -> str:
    return format_gib(nbytes, 2) if nbytes >= 10 << 20 else format_gib(nbytes, 4)
