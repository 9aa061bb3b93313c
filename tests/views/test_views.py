"""Views say what the forecast says, labelled, in GiB, and escape what they are given."""

import io

import pytest
from rich.console import Console

from vramcast.forecast import BreakdownItem, Forecast, Instant
from vramcast.timeline import CATEGORIES
from vramcast.units import GIB
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
    ("verdict", "used", "line"),
    [
        ("fits", 6, "FITS  device used 6.00 GiB of 24.00 GiB (rtx-3090), headroom 18.00 GiB"),
        ("tight", 24, "TIGHT  device used 24.00 GiB of 24.00 GiB (rtx-3090), headroom 0.00 GiB"),
        ("does_not_fit", 25, "DOES NOT FIT  device used 25.00 GiB of 24.00 GiB (rtx-3090), short of 1.00 GiB"),
    ],
)
def test_verdict_line(verdict: str, used: int, line: str) -> None:
    forecast = a_forecast(verdict=verdict, device_used_bytes=used * GIB)
    assert verdict_line(forecast) == line
    assert printed(forecast).startswith(line)


def test_every_peak_says_what_it_compares_with() -> None:
    assert [(name, size) for name, size, _ in peak_rows(a_forecast())] == [
        ("peak allocated", "4.00 GiB"),
        ("peak reserved", "5.00 GiB"),
        ("device used", "6.00 GiB"),
    ]
    text = printed(a_forecast())
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
