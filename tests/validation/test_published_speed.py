"""A bound that a measurement beats is no bound; one that is far from every measurement says nothing."""

import pytest
from validation.decoding_speed import PublishedDecoding, bounds_of, load_decodings
from validation.training_speed import PublishedSpeed, bound_of, highest_speed, load_speeds

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("row", load_speeds(), ids=lambda row: row.name)
def test_no_published_speed_beats_the_bound_of_how_it_ran(row: PublishedSpeed) -> None:
    assert row.tokens_per_second < highest_speed(row)


def test_the_bound_is_near_where_fp32_arithmetic_limits() -> None:
    baseline = load_speeds()[0]
    assert baseline.tokens_per_second > 0.65 * bound_of(baseline).highest_tokens_per_second


@pytest.mark.parametrize("row", load_decodings(), ids=lambda row: f"{row.model}-{row.engine}-{row.prompt_length}")
def test_no_published_generation_beats_the_bound_of_how_it_ran(row: PublishedDecoding) -> None:
    time = bounds_of(row.model, row.prompt_length)
    assert row.seconds > time.any_implementation.lower_bound_seconds
    if row.engine == "transformers":
        assert row.seconds > time.lower_bound_seconds


@pytest.mark.parametrize(("prompt_length", "published_over_eager_bound"), [(63_488, 0.96), (129_024, 0.98)])
def test_what_beats_eager_code_does_not_beat_any_implementation(
    prompt_length: int, published_over_eager_bound: float
) -> None:
    """vLLM's Qwen2.5-14B of the same page: transformers copies the cache for every token, which the engine does not."""
    time = bounds_of("qwen2.5-14b", prompt_length)
    published = published_over_eager_bound * time.lower_bound_seconds
    assert published > 1.4 * time.any_implementation.lower_bound_seconds
