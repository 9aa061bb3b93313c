"""Recorded training steps, replayed both ways."""

import pytest
from plain_programs import comparable

from vramcast.allocator import AllocatorConfig, PlainTimeline, plain_replay, replay, replay_plain
from vramcast.hardware import find_gpu
from vramcast.job import TrainingJob
from vramcast.models import load_model


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama"])
def test_recorded_training_steps(model: str, expandable: bool, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("torch")
    from vramcast.record.training import record_training

    path = request.getfixturevalue(model)
    job = TrainingJob(model=path, batch_size=16, sequence_length=128)
    timeline = record_training(job, load_model(path), find_gpu("a100-80gb")).timeline
    plain, config = PlainTimeline.of(timeline), AllocatorConfig(expandable_segments=expandable)
    assert plain is not None
    peak = replay(timeline, config).peak_reserved_bytes
    for capacity in (None, peak, peak * 9 // 10, peak // 2):
        fast = replay_plain(*plain, config, capacity)
        assert comparable(fast) == comparable(plain_replay._replay_full(*plain, config, capacity))
        full = replay(timeline, config, capacity)
        assert fast.peak_allocated_bytes == full.peak_allocated_bytes
        assert fast.live_at_peak == full.live_at_peak
        assert fast.num_alloc_retries == full.num_alloc_retries
        readings = [(mark.name, mark.allocated_bytes, mark.interval_peak_allocated_bytes) for mark in fast.marks]
        assert readings == [
            (mark.name, mark.allocated_bytes, mark.interval_peak_allocated_bytes) for mark in full.marks
        ]
