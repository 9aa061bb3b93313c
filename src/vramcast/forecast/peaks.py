"""Peaks of one training job at any batch size and sequence length: what searches (fit, sweep) ask again and again."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vramcast.allocator import AllocatorConfig, replay_plain
from vramcast.forecast import engine
from vramcast.forecast.readings import read_recording
from vramcast.forecast.training_tapes import (
    NEWEST_TORCH,
    NoTape,
    bound_training,
    training_values,
)
from vramcast.hardware import GPU
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig
from vramcast.tapes import BoundTape, Tape, why_not
from vramcast.tapes.dimensions import gpu_values
from vramcast.tapes.folding import FoldedSets, folded
from vramcast.tapes.holding import holds_on_grid
from vramcast.tapes.peak import live_sets
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

    @property
    def peak_reserved_bytes(self) -> int:
        """The same by the name that readings of a replay have."""
        return self.reserved_bytes


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


@dataclass
class TapePeaks:
    """A `PeakSource` that replays the tape of a job: milliseconds each, no torch once the tape is there."""

    job: TrainingJob
    config: ModelConfig
    gpu: GPU
    _tapes: list[Tape] = field(default_factory=list)
    _values: dict[str, int] = field(default_factory=dict)
    _traced: TracedPeaks | None = None

    def live_bytes(self, batch_size: int, sequence_length: int) -> int:
        """See `PeakSource`."""
        bound = self._bound(batch_size, sequence_length)
        if bound is None:
            return self._trace().live_bytes(batch_size, sequence_length)
        return _live_sums(bound).peak_bytes(batch_size, sequence_length)

    def peaks(self, batch_size: int, sequence_length: int, capacity_bytes: int | None = None) -> Peaks:
        """See `PeakSource`."""
        bound = self._bound(batch_size, sequence_length)
        if bound is None:
            return self._trace().peaks(batch_size, sequence_length, capacity_bytes)
        config = AllocatorConfig(expandable_segments=self.job.expandable_segments)
        unrolled = bound.unrolled
        result = replay_plain(bound.allocation_bytes, unrolled.event_list, (), config, capacity_bytes)
        return Peaks(
            result.peak_allocated_bytes,
            result.peak_reserved_bytes,
            bool(result.out_of_memory),
            result.num_alloc_retries,
        )

    def live_grid(self, batch_sizes: Sequence[int], sequence_lengths: Sequence[int]) -> NDArray[np.int64]:
        """`live_bytes` for every pair: an array [batch sizes, sequence lengths], one matrix product for each tape it takes."""
        grid = np.zeros((len(batch_sizes), len(sequence_lengths)), dtype=np.int64)
        rows, columns = np.array(batch_sizes, dtype=np.int64), np.array(sequence_lengths, dtype=np.int64)
        left = np.ones_like(grid, dtype=np.bool_)
        while left.any():
            row, column = np.argwhere(left)[0]
            bound = self._bound(batch_sizes[row], sequence_lengths[column])
            if bound is None:
                for i, j in np.argwhere(left):
                    grid[i, j] = self.live_bytes(batch_sizes[i], sequence_lengths[j])
                break
            here = left & holds_on_grid(bound.tape, bound.values, self._capability, batch_sizes, sequence_lengths)
            assert here[row, column], "a tape that was found holds where it was looked for"
            i, j = np.nonzero(here)
            grid[here] = _live_sums(bound).peaks_bytes(rows[i], columns[j])
            left &= ~here
        return grid

    @property
    def _capability(self) -> tuple[int, int]:
        return self.gpu.kernel_capability

    def _bound(self, batch_size: int, sequence_length: int) -> BoundTape | None:
        """The tape with these numbers put in; None where this job has none."""
        update = {"batch_size": batch_size, "sequence_length": sequence_length}
        if self._traced is not None:
            return None
        for tape in self._tapes:
            values = {**self._base_values(tape), "B": batch_size, "T": sequence_length}
            if why_not(tape, values, self._capability) is None:
                return BoundTape(tape, values, self.job.gradient_accumulation_steps)
        try:
            bound = bound_training(self.job.model_copy(update=update), self.config, self.gpu)
        except NoTape:
            self._trace()
            return None
        self._tapes.append(bound.tape)
        return bound

    def _base_values(self, tape: Tape) -> dict[str, int]:
        if not self._values:
            job = self.job.model_copy(update={"sequence_length": 1})
            self._values = training_values(job, self.config, self.gpu, tape.versions["torch"])
        return self._values

    def _trace(self) -> TracedPeaks:
        if self._traced is None:
            self._traced = TracedPeaks(self.job, self.config, self.gpu)
        return self._traced


def _live_sums(bound: BoundTape) -> FoldedSets:
    return folded(live_sets(bound.tape, bound.values["L"], bound.micro_batches), bound.values)


def peak_source(job: TrainingJob, config: ModelConfig, gpu: GPU) -> PeakSource:
    """Where the peaks of a job come from; the same object for cards that run it alike."""
    alike = run_alike(job, config, gpu)
    if alike not in _SOURCES:
        if len(_SOURCES) >= MOST_SOURCES:
            _SOURCES.clear()
        _SOURCES[alike] = TapePeaks(job, config, gpu)
    return _SOURCES[alike]


def run_alike(job: TrainingJob | GenerationJob, config: ModelConfig, gpu: GPU) -> Hashable:
    """Equal for cards on which a job allocates the same."""
    # Flash attention alone looks at the number of multiprocessors.
    may_take_flash = job.precision != "fp32" and job.attention in ("sdpa", "flash")
    of_gpu = gpu_values(gpu, NEWEST_TORCH)
    return (
        job.model_dump_json(exclude={"gpu", "gpu_memory", "margin"}),
        config.model_dump_json(),
        gpu.compute_capability,
        of_gpu["U"],
        of_gpu["m"] if may_take_flash else None,
    )


MOST_SOURCES = 256
_SOURCES: dict[Hashable, TapePeaks] = {}
