"""What a run really took."""

import psutil  # type: ignore[import-untyped]
import torch

from vramcast.gpt.report import MeasuredPeaks


def reset_peaks(device: torch.device) -> None:
    """Begin to measure."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def measured_peaks(device: torch.device) -> MeasuredPeaks | None:
    """Peaks since `reset_peaks`; None on a CPU, whose memory is not comparable with a GPU's."""
    if device.type != "cuda":
        return None
    return MeasuredPeaks(
        peak_allocated_bytes=torch.cuda.max_memory_allocated(device),
        peak_reserved_bytes=torch.cuda.max_memory_reserved(device),
    )


def memory_now(device: torch.device) -> int:
    """Allocated on the GPU, or resident on the host, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    resident: int = psutil.Process().memory_info().rss
    return resident
