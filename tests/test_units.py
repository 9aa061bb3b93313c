"""Bytes in, text out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import InputError
from vramcast.units import GIB, MIB, format_bytes, format_gib, parse_bytes


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1.00 KiB"),
        (MIB - 1, "1024.00 KiB"),
        (MIB, "1.00 MiB"),
        (3 * GIB // 2, "1.50 GiB"),
        (-GIB, "-1.00 GiB"),
    ],
)
def test_format_bytes(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


def test_format_gib_keeps_its_unit() -> None:
    assert format_gib(MIB, 4) == "0.0010 GiB"


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("24GiB", 24 * GIB),
        ("512 MiB", 512 * MIB),
        ("1.5gib", 3 * GIB // 2),
        ("1048576", MIB),
        ("2KiB", 2048),
        ("1TiB", 1 << 40),
    ],
)
def test_parse_bytes(text: str, nbytes: int) -> None:
    assert parse_bytes(text, "gpu_memory") == nbytes


@pytest.mark.parametrize("text", ["80GB", "80G", "1e9", "", "GiB", "-1GiB", "0", "12 parsecs", "1,000"])
def test_parse_bytes_refuses_what_is_not_clear(text: str) -> None:
    with pytest.raises(InputError, match="gpu_memory="):
        parse_bytes(text, "gpu_memory")


@given(st.integers(min_value=1, max_value=1 << 50))
def test_whole_bytes_survive(nbytes: int) -> None:
    assert parse_bytes(str(nbytes), "size") == nbytes
