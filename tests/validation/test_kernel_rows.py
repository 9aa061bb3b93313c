"""Kernel rows as regression tests: they are published to the byte, and reached."""

import pytest
from validation.published import Published, load_rows
from validation.running import compare
from validation.workloads import discover

from vramcast.units import MIB

TOLERANCE_BYTES = 0.0011 * MIB
"""One unit of the last digit of the coarsest row: 32-bit floats lose 0.001 MiB at 40 GiB."""
EXACT = [f"liger-{number}" for number in ("005", "006", "011", "013", "018", "023", "026", "031", "033", "043")]
EXACT += ["cce-003", "cce-006"]


def row(id: str) -> Published:
    return next(row for row in load_rows() if row.id == id)


@pytest.mark.parametrize("id", EXACT)
def test_a_kernel_row_is_reached_to_a_thousandth_of_a_mib(id: str) -> None:
    comparison = compare(row(id), discover()[id])
    assert comparison.failure == ""
    assert comparison.predicted_bytes == pytest.approx(comparison.published.value_bytes, abs=TOLERANCE_BYTES)


@pytest.mark.slow
def test_the_expert_loop_is_within_half_a_percent() -> None:
    comparison = compare(row("liger-040"), discover()["liger-040"])
    assert comparison.error is not None
    assert abs(comparison.error) < 0.005


@pytest.mark.parametrize(
    "id", ["mls-profile_grada", "mls-profile_gradr", "mls-profile_no_grada", "mls-profile_no_gradr"]
)
def test_a_linear_layers_snapshot_is_reached_to_the_byte(id: str) -> None:
    comparison = compare(row(id), discover()[id])
    assert comparison.failure == ""
    assert comparison.predicted_bytes == comparison.published.value_bytes
