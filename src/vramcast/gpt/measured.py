"""What a run really took."""

import psutil  # type: ignore[import-untyped]
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from vramcast.gpt.report import MeasuredPeaks
from vramcast.measure.allocator_readings import allocator_memory


def reset_peaks(device: torch.device) -> None:
    """Begin to measure."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def measured_peaks(device: torch.device) -> MeasuredPeaks | None:
    """Peaks since `reset_peaks`; None on a CPU, whose memory is not comparable with a GPU's."""
    if device.type != "cuda":
        return None
    memory = allocator_memory()
    return MeasuredPeaks(**{name: memory[name] for name in MeasuredPeaks.model_fields})


def highest_peaks(accelerator: Accelerator) -> MeasuredPeaks | None:
    """Each peak of the process where it is highest; every process calls this. None on a CPU."""
    own = measured_peaks(accelerator.device)
    if own is None or accelerator.num_processes == 1:
        return own
    everywhere: list[MeasuredPeaks] = gather_object([own])
    return MeasuredPeaks(
        **{name: max(getattr(each, name) for each in everywhere) for name in MeasuredPeaks.model_fields}
    )


def memory_now(device: torch.device) -> int:
    """Allocated on the GPU, or resident on the host, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    resident: int = psutil.Process().memory_info().rss
    return resident
