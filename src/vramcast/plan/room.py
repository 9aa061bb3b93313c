"""What one card has room for, and whether a job fits into it."""

from __future__ import annotations

from typing import NamedTuple

from vramcast.forecast.forecast import Verdict
from vramcast.forecast.peaks import Peaks, PeakSource
from vramcast.hardware import GPU, cuda_context_bytes


class Placement(NamedTuple):
    """A job on a card."""

    verdict: Verdict
    peaks: Peaks
    """Within the card where the job runs there; without a limit where it does not."""


class Room(NamedTuple):
    """Sizes of a card in bytes."""

    gpu_memory_bytes: int
    """What the driver reports as the card's total."""
    context_bytes: int
    """CUDA context: outside PyTorch's allocator."""
    context_uncertainty_bytes: int

    @property
    def capacity_bytes(self) -> int:
        """What the caching allocator may reserve."""
        return self.gpu_memory_bytes - self.context_bytes

    def place(self, source: PeakSource, batch_size: int, length: int) -> Placement:
        """The verdict of a forecast: see `vramcast.forecast.Forecast.verdict`."""
        natural = source.peaks(batch_size, length)
        if natural.reserved_bytes <= self.capacity_bytes:
            return Placement(self.verdict(natural), natural)
        if source.live_bytes(batch_size, length) > self.capacity_bytes:
            return Placement("does_not_fit", natural)
        limited = source.peaks(batch_size, length, self.capacity_bytes)
        return Placement("does_not_fit", natural) if limited.out_of_memory else Placement("tight", limited)

    def verdict(self, peaks: Peaks) -> Verdict:
        """Of a job that completes within the capacity."""
        headroom = self.capacity_bytes - peaks.reserved_bytes
        return "fits" if headroom >= self.context_uncertainty_bytes and not peaks.num_alloc_retries else "tight"


def room_of(gpu: GPU) -> Room:
    """The room of a row of the hardware file or of a custom card."""
    context = cuda_context_bytes(gpu)
    return Room(gpu.memory_total_bytes, context.bytes, context.uncertainty_bytes)
