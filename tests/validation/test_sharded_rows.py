"""Rows on several GPUs as regression tests: rank 0 allocates what was published."""

import pytest
from test_kernel_rows import row
from validation.running import compare
from validation.safety import judged
from validation.workloads import discover


@pytest.mark.slow
@pytest.mark.parametrize(("id", "within"), [("titan165-005", 1e-4), ("fmsa-006a", 1e-4), ("fmsg-004a", 2e-3)])
def test_allocated_peaks_of_rank_0_are_reached(id: str, within: float) -> None:
    comparison = compare(row(id), discover()[id])
    assert comparison.failure == ""
    assert comparison.error == pytest.approx(0, abs=within)


@pytest.mark.slow
@pytest.mark.parametrize("id", ["titan165-006", "titan-001", "fmsa-006n"])
def test_reserved_memory_lies_inside_the_interval(id: str) -> None:
    each = judged(compare(row(id), discover()[id]))
    assert each is not None
    assert each.is_inside
    assert each.published_bytes > each.best_bytes
