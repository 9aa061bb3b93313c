"""Peaks of one training job at any batch size and sequence length: what searches (fit, sweep) ask again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from vramcast.allocator import AllocatorConfig
from vramcast.forecast import engine
from vramcast.forecast.readings import read_recording
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
from vramcast.timeline import Recording


class Peaks(NamedTuple):
    """One replay, in bytes."""

    allocated_bytes: int
    """Comparable with `torch.cuda.max_memory_allocated()`."""
    reserved_bytes: int
    """Comparable with `torch.cuda.max_memory_reserved()`."""
    out_of_memory: bool = False
    """A capacity was given and the job does not run within it."""
    num_alloc_retries: int = 0
    """How often the allocator had to give cached memory back to stay within the capacity."""


class PeakSource(Protocol):
    """Answers for one job on one kind of GPU, at any batch size and sequence length."""

    def live_bytes(self, batch_size: int, sequence_length: int) -> int:
        """Largest sum of live tensors, each rounded up to a block of 512 bytes: never above the allocated peak, and fast."""

    def peaks(self, batch_size: int, sequence_length: int, capacity_bytes: int | None = None) -> Peaks:
        """Replayed through the caching allocator; with `capacity_bytes` the allocator may reserve no more than that."""


@dataclass
class TracedPeaks:
    """A `PeakSource` that runs the model anew for every question: seconds each, needs torch."""

    job: TrainingJob
    config: ModelConfig
    gpu: GPU
    _recordings: dict[tuple[int, int], Recording] = field(default_factory=dict)

    def live_bytes(self, batch_size: int, sequence_length: int) -> int:
        """See `PeakSource`."""
        timeline = self._recording(batch_size, sequence_length).timeline
        live = peak = 0
        for kind, target, _ in timeline.events:
            if kind <= 1:
                block = -(-timeline.allocations[target].nbytes // 512) * 512
                live += block if kind == 0 else -block
                peak = max(peak, live)
        return peak

    def peaks(self, batch_size: int, sequence_length: int, capacity_bytes: int | None = None) -> Peaks:
        """See `PeakSource`."""
        config = AllocatorConfig(expandable_segments=self.job.expandable_segments)
        readings = read_recording(self._recording(batch_size, sequence_length), config, capacity_bytes)
        return Peaks(
            readings.peak_allocated_bytes,
            readings.peak_reserved_bytes,
            readings.out_of_memory,
            readings.num_alloc_retries,
        )

    def _recording(self, batch_size: int, sequence_length: int) -> Recording:
        key = (batch_size, sequence_length)
        if key not in self._recordings:
            job = self.job.model_copy(update={"batch_size": batch_size, "sequence_length": sequence_length})
            self._recordings[key] = engine.record_training(job, self.config, self.gpu)
        return self._recordings[key]


def peak_source(job: TrainingJob, config: ModelConfig, gpu: GPU) -> PeakSource:
    """Where the peaks of a job come from."""
    return TracedPeaks(job, config, gpu)
