"""Peaks of a generation job at any batch size and prompt length."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from vramcast.allocator import AllocatorConfig
from vramcast.allocator.blocks import MIN_BLOCK
from vramcast.forecast.answer import generation_source
from vramcast.forecast.peaks import Peaks, PeakSource, run_alike
from vramcast.forecast.source import Source
from vramcast.hardware import GPU
from vramcast.job import GenerationJob
from vramcast.models import ModelConfig
from vramcast.timeline import EventKind

MOST_KEPT = 32
"""Jobs whose timelines are kept; those of long models are large."""


@dataclass
class GenerationPeaks:
    """A `PeakSource` that replays a tape, or traces a job that has none."""

    job: GenerationJob
    config: ModelConfig
    gpu: GPU
    _sources: dict[tuple[int, int], Source] = field(default_factory=dict)

    def live_bytes(self, batch_size: int, prompt_length: int) -> int:
        """See `PeakSource`; only the prefill and the first decode steps are looked at, which bounds the whole from below."""
        timeline = self._source(batch_size, prompt_length).timeline()
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
        readings = self._source(batch_size, prompt_length).read(config, capacity_bytes)
        return Peaks(
            readings.peak_allocated_bytes,
            readings.peak_reserved_bytes,
            readings.out_of_memory,
            readings.num_alloc_retries,
        )

    def _source(self, batch_size: int, prompt_length: int) -> Source:
        key = (batch_size, prompt_length)
        if key not in self._sources:
            if len(self._sources) >= MOST_KEPT:
                self._sources.pop(next(iter(self._sources)))
            job = self.job.model_copy(update={"batch_size": batch_size, "prompt_length": prompt_length})
            self._sources[key] = generation_source(job, self.config, self.gpu)
        return self._sources[key]


def generation_peak_source(job: GenerationJob, config: ModelConfig, gpu: GPU) -> PeakSource:
    """Where the peaks of a job come from; the same object for cards that run it alike."""
    alike = run_alike(job, config, gpu)
    if alike not in _SOURCES:
        if len(_SOURCES) >= MOST_KEPT:
            _SOURCES.clear()
        _SOURCES[alike] = GenerationPeaks(job, config, gpu)
    return _SOURCES[alike]


_SOURCES: dict[Hashable, GenerationPeaks] = {}
