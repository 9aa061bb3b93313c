"""Tapes recorded where flash attention leaves the keys whole answer where it splits them, on any card."""

from collections import Counter
from typing import Any

import pytest

from vramcast.forecast import engine
from vramcast.forecast.generation_tapes import bound_generation
from vramcast.forecast.training_tapes import bound_training
from vramcast.hardware import GPU, custom_gpu, find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import model_from_fields
from vramcast.record.tape_checking import facts
from vramcast.timeline import EventKind, Timeline
from vramcast.timeline.decode import extended_timeline
from vramcast.units import GIB

FIELDS = {"model_type": "gpt2", "n_layer": 4, "n_head": 4, "n_embd": 256, "vocab_size": 97, "n_positions": 1024}
CONFIG = model_from_fields(FIELDS, name="made", source="preset", origin="test")
FLASH = "_scaled_dot_product_flash_attention"
H100, RTX_3060, CUSTOM = find_gpu("h100-sxm"), find_gpu("rtx-3060-12gb"), custom_gpu(24 * GIB)
# 64 blocks of queries are enough for 56 places, but not for 216 or 264.
CASES = [(H100, 1024, 4), (CUSTOM, 1024, 2), (RTX_3060, 1024, 1), (RTX_3060, 300, 2)]


def named(value: Any) -> str:
    return value.name if isinstance(value, GPU) else str(value)


def events(timeline: Timeline) -> list[tuple[Any, ...]]:
    """Every event, with what its allocation is."""
    return [
        (kind, target, facts(timeline.allocations[target])) if kind is EventKind.ALLOC else (kind, target, value)
        for kind, target, value in timeline.events
    ]


def largest_parts(timeline: Timeline) -> Counter[int]:
    """Bytes of the fp32 results of the parts -> how often."""
    found = [a.nbytes for a in timeline.allocations if a.op == FLASH and a.category == "workspace"]
    return Counter(nbytes for nbytes in found if nbytes == max(found))


@pytest.mark.parametrize(("gpu", "length", "parts"), CASES, ids=named)
def test_training(gpu: GPU, length: int, parts: int) -> None:
    job = TrainingJob(model="made", batch_size=1, sequence_length=length, precision="bf16", dropout=0.0)
    tape = bound_training(job, CONFIG, gpu).timeline()
    assert events(tape) == events(engine.record_training(job, CONFIG, gpu).timeline)
    # Three steps, each of 4 layers.
    expected = {parts * 4 * length * 64 * 4: 3 * 4} if parts > 1 else {}
    assert largest_parts(tape) == expected


@pytest.mark.slow
def test_prefill() -> None:
    job = GenerationJob(model="made", prompt_length=1000, max_new_tokens=16, precision="bf16")
    whole = []
    for recording in (bound_generation(job, CONFIG, H100).recording(), engine.record_generation(job, CONFIG, H100)):
        assert recording.decode is not None
        whole.append(extended_timeline(recording.timeline, recording.decode))
    assert events(whole[0]) == events(whole[1])
    assert largest_parts(whole[0]) == {4 * 4 * 1000 * 64 * 4: 4}
