"""Printed figures are read exactly, and printed again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import VramcastError
from vramcast.textbook import format_value, parse_claim


@pytest.mark.parametrize(
    ("text", "low", "high", "unit"),
    [
        ("468 MB", 468_000_000, 468_000_000, "bytes"),
        ("26.6 Gb", 26_600_000_000, 26_600_000_000, "bytes"),
        ("~1.2 GB", 1_200_000_000, 1_200_000_000, "bytes"),
        ("1-1.5 GB", 1_000_000_000, 1_500_000_000, "bytes"),
        ("8.3:1", 8.3, 8.3, "ratio"),
        ("5-8x", 5, 8, "ratio"),
        ("87%", 0.87, 0.87, "share"),
        ("3,088,334,848", 3_088_334_848, 3_088_334_848, "count"),
        ("1.59410463e10 bytes", 15_941_046_300, 15_941_046_300, "bytes"),
        ("132 days", 132 * 86400, 132 * 86400, "seconds"),
    ],
)
def test_reading(text: str, low: float, high: float, unit: str) -> None:
    claim = parse_claim(text)
    assert (claim.low, claim.high, claim.unit, claim.text) == (low, high, unit, text)


@pytest.mark.parametrize(
    ("text", "value", "printed"),
    [
        ("1.38 GB", 1_380_000_000, True),
        ("3.05 GB", 3_048_000_000, True),
        ("26.6 Gb", 26_683_781_120, False),
        ("1.59410463e10 bytes", 15_941_046_272, True),
        ("1.59410463e10 bytes", 15_941_046_372, False),
        ("1-1.5 GB", 1_492_080_384, True),
        ("1-1.5 GB", 1_500_000_001, False),
        ("123,568,896", 123_568_896, True),
        ("123,568,896", 123_568_897, False),
    ],
)
def test_a_value_is_printed_to_the_last_digit(text: str, value: int, printed: bool) -> None:
    assert parse_claim(text).prints(value) is printed


@pytest.mark.parametrize("text", ["", "about a lot", "5 GiB", "1.2.3 GB", "-3 GB"])
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(VramcastError, match="printed="):
        parse_claim(text)


def test_nearest_point_of_a_range() -> None:
    claim = parse_claim("4-6 GB")
    assert [claim.nearest(value * 10**9) for value in (1, 5, 9)] == [4 * 10**9, 5 * 10**9, 6 * 10**9]


@given(st.integers(min_value=10**6, max_value=10**14))
def test_formatted_bytes_are_printed_by_themselves(nbytes: int) -> None:
    assert parse_claim(format_value(nbytes, "bytes")).prints(nbytes)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1, "count", "1"),
        (2.9643, "count", "2.964"),
        (11_418_005.37, "seconds", "132 days"),
        (568_000_000, "seconds", "18.0 years"),
        (0.5, "share", "50%"),
        (6, "ratio", "6.00x"),
        (9.05969664e10, "flops", "9.06e+10 FLOPs"),
    ],
)
def test_formatting(value: float, unit: str, text: str) -> None:
    assert format_value(value, unit) == text  # type: ignore[arg-type]
