"""Time of replaying recorded jobs: the flat allocator beside the full simulation, in microseconds an event.

    python benchmarks/replay_speed.py

Both must agree on the peaks. Runs alternate and the fastest of each counts, so that the ratio holds on a
busy machine.
"""

import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import NamedTuple
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from vramcast.allocator import (
    AllocatorConfig,
    GenerationReplay,
    PlainTimeline,
    ReplayResult,
    replay,
    replay_generation,
    replay_plain,
)
from vramcast.allocator.flat_steps import FlatStepEngine
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model

ROUNDS = 15
TRAINING = (
    TrainingJob(model="gpt2", batch_size=8, sequence_length=1024),
    TrainingJob(model="llama-3-8b", batch_size=1, sequence_length=2048, precision="bf16", gpu="h100-80gb"),
)
GENERATION = GenerationJob(
    model="llama-3-8b", batch_size=4, prompt_length=128, max_new_tokens=256, precision="bf16", gpu="h100-80gb"
)


class Timing(NamedTuple):
    """Seconds of the fastest round."""

    num_events: int
    full_seconds: float
    flat_seconds: float


def time_training(job: TrainingJob, config: AllocatorConfig) -> Timing:
    """Three optimizer steps."""
    from vramcast.record.training import record_training

    timeline = record_training(job, load_model(job.model), find_gpu(job.gpu)).timeline
    plain = PlainTimeline.of(timeline)
    assert plain is not None
    return fastest(
        lambda: _peaks(replay(timeline, config)), lambda: _peaks(replay_plain(*plain, config)), len(plain.events)
    )


def time_generation(job: GenerationJob, config: AllocatorConfig) -> Timing:
    """A prompt and every decode step."""
    from vramcast.record.generation import record_generation

    recording = record_generation(job, load_model(job.model), find_gpu(job.gpu))
    timeline, decode = recording.timeline, recording.decode
    assert decode is not None

    def full() -> tuple[int, int, int]:
        with patch.object(FlatStepEngine, "copy_of", return_value=None):
            return _peaks(replay_generation(timeline, decode, config))

    num_events = replay_generation(timeline, decode, config).num_events
    return fastest(full, lambda: _peaks(replay_generation(timeline, decode, config)), num_events, rounds=3)


def _peaks(result: ReplayResult | GenerationReplay) -> tuple[int, int, int]:
    return result.peak_allocated_bytes, result.peak_reserved_bytes, result.num_alloc_retries


def fastest(full: Callable[[], object], flat: Callable[[], object], num_events: int, rounds: int = ROUNDS) -> Timing:
    """Alternate the two, which must agree."""
    seconds: dict[Callable[[], object], list[float]] = {full: [], flat: []}
    answers = []
    for run in chain.from_iterable(repeat((full, flat), rounds)):
        begin = time.perf_counter()
        answers.append(run())
        seconds[run].append(time.perf_counter() - begin)
    assert all(answer == answers[0] for answer in answers)
    return Timing(num_events, min(seconds[full]), min(seconds[flat]))


def main() -> None:
    """Record, replay both ways, print the table."""
    columns = ("job", "segments", "events", "full us/event", "flat us/event", "flat ms", "times faster")
    table = Table(*columns, box=None)
    for expandable in (False, True):
        config = AllocatorConfig(expandable_segments=expandable)
        timings = {f"train {job.model}": time_training(job, config) for job in TRAINING}
        timings[f"generate {GENERATION.model}"] = time_generation(GENERATION, config)
        for name, timing in timings.items():
            table.add_row(
                name,
                "expandable" if expandable else "native",
                str(timing.num_events),
                f"{timing.full_seconds / timing.num_events * 1e6:.2f}",
                f"{timing.flat_seconds / timing.num_events * 1e6:.2f}",
                f"{timing.flat_seconds * 1e3:.1f}",
                f"{timing.full_seconds / timing.flat_seconds:.1f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
