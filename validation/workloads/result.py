"""What one validation workload reports."""

from dataclasses import dataclass


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
    """

    peak_allocated_bytes: int
    peak_reserved_bytes: int
    notes: str = ""
    device_extra_bytes: int = 0
