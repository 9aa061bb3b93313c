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
