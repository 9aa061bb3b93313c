"""Views say what the forecast says, labelled, in GiB, and escape what they are given."""

import io

import pytest
from rich.console import Console

from vramcast.forecast import BreakdownItem, Forecast, Instant
from vramcast.forecast.uncertainty import Uncertainty
from vramcast.timeline import CATEGORIES
from vramcast.units import GIB, MIB
from vramcast.views.html import forecast_html
from vramcast.views.rows import CATEGORY_COLORS, CATEGORY_NAMES, breakdown_rows, peak_rows, verdict_line
from vramcast.views.terminal import print_forecast


def a_forecast(**changes: object) -> Forecast:
    fields: dict[str, object] = {
        "workload": "training",
        "model": "gpt2",
        "parameters": 124_439_808,
        "peak_allocated_bytes": 4 * GIB,
        "peak_reserved_bytes": 5 * GIB,
        "device_used_bytes": 6 * GIB,
        "reserved_bytes_low": 5 * GIB,
        "reserved_bytes_high": 5 * GIB,
        "device_used_bytes_low": 6 * GIB - 300 * MIB,
        "device_used_bytes_high": 6 * GIB + 300 * MIB,
        "uncertainty": (
            Uncertainty(
                name="CUDA context", low_bytes=-300 * MIB, high_bytes=300 * MIB, counts_in="device_used", reason="[a]"
            ),
        ),
        "peak_phase": "backward",
        "breakdown": (
            BreakdownItem(category="activations", bytes=3 * GIB),
            BreakdownItem(category="parameters", bytes=GIB),
        ),
        "instants": (
            Instant(name="after_load", allocated_bytes=GIB),
            Instant(name="backward_peak", allocated_bytes=4 * GIB),
        ),
        "flops_per_step": 1,
        "engine": "trace",
        "gpu": "rtx-3090",
        "gpu_memory_bytes": 24 * GIB,
        "verdict": "fits",
        "assumptions": ("a line with [brackets] in it",),
        "context_bytes": GIB,
        "context_uncertainty_bytes": 1,
        "settings": {"batch_size": 8, "expandable_segments": False, "dropout": None},
    }
    return Forecast(**{**fields, **changes})  # type: ignore[arg-type]


def printed(forecast: Forecast, width: int = 120) -> str:
    out = io.StringIO()
    print_forecast(forecast, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize(
    ("verdict", "low", "high", "line"),
    [
        ("fits", 5.5, 6.25, "FITS  needs 5.50 to 6.25 GiB of 24.00 GiB (rtx-3090), 17.8 GiB free"),
        ("fits", 6, 6.001, "FITS  needs 6.00 GiB of 24.00 GiB (rtx-3090), 18.0 GiB free"),
        (
            "tight",
            23.5,
            24.0625,
            "TIGHT  needs 23.5 to 24.1 GiB of 24.00 GiB (rtx-3090), short by 64.0 MiB at the worst",
        ),
        (
            "does_not_fit",
            25.5,
            26,
            "DOES NOT FIT  needs 25.5 to 26.0 GiB, an rtx-3090 offers 24.00 GiB (short by 1.50 GiB)",
        ),
        (
            "does_not_fit",
            141,
            145,
            "DOES NOT FIT  needs 141 to 145 GiB, an rtx-3090 offers 24.00 GiB (short by 117 GiB)",
        ),
    ],
)
def test_verdict_line(verdict: str, low: float, high: float, line: str) -> None:
    forecast = a_forecast(verdict=verdict, device_used_bytes_low=int(low * GIB), device_used_bytes_high=int(high * GIB))
    assert verdict_line(forecast) == line
    assert printed(forecast).startswith(line)


def test_every_peak_says_what_it_compares_with() -> None:
    assert [(name, size) for name, size, _ in peak_rows(a_forecast())] == [
        ("peak allocated", "4.00 GiB"),
        ("peak reserved", "5.00 GiB"),
        ("device used", "6.00 GiB"),
    ]
    text = printed(a_forecast())
    assert "uncertain" in text and "-0.293 GiB, +0.293 GiB" in text and "[a]" in text
    for api in ("torch.cuda.max_memory_allocated()", "torch.cuda.max_memory_reserved()", "nvidia-smi"):
        assert api in text


def test_bars_are_in_proportion() -> None:
    lines = {line.split()[0]: line.count("█") for line in printed(a_forecast()).splitlines() if "█" in line}
    assert lines == {"activations": 24, "parameters": 8}
    assert [row.share for row in breakdown_rows(a_forecast())] == [0.75, 0.25]


def test_every_category_has_a_name_and_a_colour() -> None:
    assert set(CATEGORY_NAMES) == set(CATEGORY_COLORS) == set(CATEGORIES)


def test_text_is_printed_as_it_is() -> None:
    assert "a line with [brackets] in it" in printed(a_forecast())


def test_settings_that_are_off_are_left_out() -> None:
    text = printed(a_forecast())
    assert "batch size 8" in text
    assert "dropout" not in text


def test_html_escapes_the_model_name() -> None:
    html = forecast_html(a_forecast(model="<script>alert(1)</script>"))
    assert "<script>" not in html
    assert html.count("width:75.0000%") == 1
