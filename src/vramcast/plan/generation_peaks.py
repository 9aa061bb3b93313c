"""Peaks of a generation job at any batch size and prompt length."""

from __future__ import annotations

from dataclasses import dataclass, field

from vramcast.allocator import AllocatorConfig
from vramcast.allocator.blocks import MIN_BLOCK
from vramcast.forecast import engine
from vramcast.forecast.peaks import Peaks
from vramcast.forecast.readings import read_recording
from vramcast.hardware import GPU
from vramcast.job import GenerationJob
from vramcast.models import ModelConfig
from vramcast.timeline import EventKind, Recording


@dataclass
class TracedGenerationPeaks:
    """A `PeakSource` that runs the model anew for every question: seconds each, needs torch."""

    job: GenerationJob
    config: ModelConfig
    gpu: GPU
    _recordings: dict[tuple[int, int], Recording] = field(default_factory=dict)

    def live_bytes(self, batch_size: int, prompt_length: int) -> int:
        """See `PeakSource`; only the prefill and the first decode steps are looked at, which bounds the whole from below."""
        timeline = self._recording(batch_size, prompt_length).timeline
        live = peak = 0
        for kind, target, _ in timeline.events:
            if kind in (EventKind.ALLOC, EventKind.FREE):
                block = -(-timeline.allocations[target].nbytes // MIN_BLOCK) * MIN_BLOCK
                live += block if kind is EventKind.ALLOC else -block
                peak = max(peak, live)
        return peak

    def peaks(self, batch_size: int, prompt_length: int, capacity_bytes: int | None = None) -> Peaks:
        """See `PeakSource`."""
        config = AllocatorConfig(expandable_segments=self.job.expandable_segments)
        readings = read_recording(self._recording(batch_size, prompt_length), config, capacity_bytes)
        return Peaks(
            readings.peak_allocated_bytes,
            readings.peak_reserved_bytes,
            readings.out_of_memory,
            readings.num_alloc_retries,
        )

    def _recording(self, batch_size: int, prompt_length: int) -> Recording:
        key = (batch_size, prompt_length)
        if key not in self._recordings:
            job = self.job.model_copy(update={"batch_size": batch_size, "prompt_length": prompt_length})
            self._recordings[key] = engine.record_generation(job, self.config, self.gpu)
        return self._recordings[key]
