"""What every view shows, as plain rows: words for the fields of a forecast, sizes as text, in one place."""

from dataclasses import dataclass

from vramcast.forecast import Forecast
from vramcast.units import format_gib

VERDICTS = {"fits": "FITS", "tight": "TIGHT", "does_not_fit": "DOES NOT FIT"}
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
    """`FITS  device used 13.40 GiB of 79.25 GiB (a100-80gb), headroom 65.85 GiB`."""
    used, total = format_gib(forecast.device_used_bytes), format_gib(forecast.gpu_memory_bytes)
    headroom = forecast.headroom_bytes
    rest = f"headroom {format_gib(headroom)}" if headroom >= 0 else f"short of {format_gib(-headroom)}"
    return f"{VERDICTS[forecast.verdict]}  device used {used} of {total} ({forecast.gpu}), {rest}"


def peak_rows(forecast: Forecast) -> list[tuple[str, str, str]]:
    """(which peak, size, what to compare it with)."""
    phase = f", in {forecast.peak_phase}" if forecast.peak_phase else ""
    return [
        ("peak allocated", format_gib(forecast.peak_allocated_bytes), f"torch.cuda.max_memory_allocated(){phase}"),
        ("peak reserved", format_gib(forecast.peak_reserved_bytes), "torch.cuda.max_memory_reserved()"),
        ("device used", format_gib(forecast.device_used_bytes), "nvidia-smi: reserved + CUDA context"),
    ]


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
