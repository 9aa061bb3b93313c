"""What one validation workload reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vramcast.forecast.room import Room
from vramcast.forecast.run import room_of_run

if TYPE_CHECKING:
    from vramcast.virtual_cuda import VirtualGPU


@dataclass(frozen=True)
class WorkloadResult:
    """Forecast memory figures of one workload, in bytes.

    Attributes:
        peak_allocated_bytes: Forecast of the allocated figure the publisher printed (usually
            ``torch.cuda.max_memory_allocated``).
        peak_reserved_bytes: Forecast of the reserved figure (usually ``torch.cuda.max_memory_reserved``).
        notes: Known differences between the forecast run and the published one, by mechanism.
        device_extra_bytes: Memory outside the caching allocator (CUDA context, libraries) which the same
            source publishes separately; added to the reserved figure when a row quotes ``nvidia-smi``.
        room: The card as the workload found it, with what is uncertain about the workload: where the ends of the
            interval come from.
    """

    peak_allocated_bytes: int
    peak_reserved_bytes: int
    notes: str = ""
    device_extra_bytes: int | None = None
    room: Room | None = None


def result_of(machine: VirtualGPU, notes: str = "", *, device_extra_bytes: int | None = None) -> WorkloadResult:
    """Peaks and room of what has run on a virtual GPU; without its timeline nothing is known of deferred frees."""
    return WorkloadResult(
        machine.peak_allocated_bytes,
        machine.peak_reserved_bytes,
        notes,
        device_extra_bytes,
        room_of_run(machine),
    )
