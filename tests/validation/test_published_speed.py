"""A bound that a measurement beats is no bound; one that is far from every measurement says nothing."""

import pytest
from validation.training_speed import PublishedSpeed, bound_of, load_speeds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("row", load_speeds(), ids=lambda row: row.name)
def test_no_published_speed_beats_the_bound(row: PublishedSpeed) -> None:
    assert row.tokens_per_second < bound_of(row).highest_tokens_per_second


def test_the_bound_is_near_where_fp32_arithmetic_limits() -> None:
    baseline = load_speeds()[0]
    assert baseline.tokens_per_second > 0.65 * bound_of(baseline).highest_tokens_per_second
