"""Training rows as regression tests."""

import pytest
from test_kernel_rows import row
from validation.running import compare
from validation.workloads import discover

from vramcast.units import MIB


@pytest.mark.slow
def test_gpt2_with_flash_attention_reserves_what_was_published() -> None:
    comparison = compare(row("rasbt-005"), discover()["rasbt-005"])
    assert comparison.failure == ""
    assert comparison.predicted_bytes == 6046 * MIB
    assert comparison.predicted_bytes == pytest.approx(comparison.published.value_bytes, abs=5 * MIB)


@pytest.mark.parametrize("id", ["csw-i128a", "csw-i128r"])
def test_a_forward_of_the_course_model_is_reached_to_the_byte(id: str) -> None:
    comparison = compare(row(id), discover()[id])
    assert comparison.failure == ""
    assert comparison.predicted_bytes == comparison.published.value_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("id", "within"), [("fmsa-007a", 1e-4), ("fmsa-003a", 1e-3), ("fmsg-003a", 1e-3)])
def test_allocated_peaks_of_a_full_fine_tuning_are_reached(id: str, within: float) -> None:
    comparison = compare(row(id), discover()[id])
    assert comparison.failure == ""
    assert comparison.error == pytest.approx(0, abs=within)
