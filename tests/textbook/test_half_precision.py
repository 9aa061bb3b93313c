"""The answer to why fp16 saves so little, from forecasts and timelines written by hand."""

from typing import Any

import pytest
from textbook_fakes import a_forecast

from vramcast.errors import InputError
from vramcast.forecast import BreakdownItem, Forecast
from vramcast.job import TrainingJob
from vramcast.textbook import half_precision_tensors, why_fp16_saves_little
from vramcast.timeline import Allocation, Timeline

GROWTH = {"fp32": (1000, 3), "amp-fp16": (700, 250)}
"""Activations of each sequence, and without any."""


def linear(job: Any) -> Forecast:
    per_sequence, fixed = GROWTH[job.precision]
    parts = {"parameters": 400, "optimizer_states": 800, "activations": fixed + job.batch_size * per_sequence}
    breakdown = tuple(BreakdownItem(category=name, bytes=size) for name, size in parts.items())
    used = sum(parts.values())
    return a_forecast(job, breakdown=breakdown, peak_allocated_bytes=used, device_used_bytes=used)


def test_growth_is_the_line_through_two_batches() -> None:
    found = why_fp16_saves_little("gpt2", (1, 8), answer=linear)
    assert [(line.per_sequence_bytes, line.fixed_bytes) for line in found.growth] == list(GROWTH.values())


def test_rows_tell_what_shrank_and_what_stayed() -> None:
    rows = {(row.batch_size, row.category): row.saved_bytes for row in why_fp16_saves_little(answer=linear).rows}
    assert rows[8, "activations"] == rows[8, "device used"] == 8 * 300 - 247
    assert rows[1, "activations"] == 300 - 247
    assert rows[8, "parameters"] == rows[8, "optimizer_states"] == rows[8, "gradients after backward"] == 0


def test_the_sentence_has_the_numbers() -> None:
    sentence = why_fp16_saves_little(answer=lambda job: _thousandfold(linear(job))).sentence
    assert "saves 2.15 GB of 9.20 GB at batch 8 and 53.0 MB of 2.20 GB at batch 1" in sentence
    assert "from 1.00 GB to 0.70 GB" in sentence
    assert "0.25 GB that no batch size shrinks" in sentence


def _thousandfold(forecast: Forecast) -> Forecast:
    factor = 10**6
    items = tuple(item.model_copy(update={"bytes": factor * item.bytes}) for item in forecast.breakdown)
    sizes = {name: factor * getattr(forecast, name) for name in ("device_used_bytes", "peak_allocated_bytes")}
    return forecast.model_copy(update={"breakdown": items, **sizes})


@pytest.mark.parametrize("batch_sizes", [(), (8,), (8, 8)])
def test_two_batch_sizes_are_needed(batch_sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="two different batch sizes"):
        why_fp16_saves_little("gpt2", batch_sizes, answer=linear)


def timeline_of(job: TrainingJob) -> Timeline:
    """A first forward that is forgotten; in the second the softmax stays fp32 and the product follows the precision."""
    half = job.precision == "amp-fp16"
    timeline = Timeline()
    first = timeline.alloc(Allocation(999, category="activations", op="_softmax", dtype="float32"))
    timeline.mark("after_forward")
    timeline.free(first)
    timeline.alloc(Allocation(7, category="parameters", op="copy_from_host", dtype="float32"))
    timeline.alloc(Allocation(100, category="activations", op="_softmax", dtype="float32"))
    for _ in range(2):
        product = Allocation(
            20 if half else 40, category="activations", op="addmm", dtype="float16" if half else "float32"
        )
        timeline.alloc(product)
    timeline.mark("after_forward")
    timeline.alloc(Allocation(5, category="activations", op="later", dtype="float32"))
    return timeline


def test_tensors_kept_by_the_last_forward() -> None:
    rows = half_precision_tensors(TrainingJob(model="gpt2"), events=timeline_of)
    found = [(row.operator, row.dtype, row.fp32_bytes, row.fp16_bytes) for row in rows]
    assert found == [("_softmax", "float32", 100, 100), ("addmm", "float32", 80, 0), ("addmm", "float16", 0, 40)]
