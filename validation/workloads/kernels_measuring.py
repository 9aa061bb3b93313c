"""How the publishers of kernel benchmarks read the peak."""

from collections.abc import Callable
from typing import Any

import torch

from validation.workloads.result import WorkloadResult
from vramcast.forecast.run import room_of_run
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU

ITERATIONS = 3
"""The publisher takes the median of ten; from the second on all are alike: `.grad` and workspaces then exist."""


def peak_of_repeated(function: Callable[[], Any]) -> int:
    """Allocated peak of one call of `function`, after earlier calls have left their gradients and workspaces."""
    for _ in range(ITERATIONS):
        torch.cuda.reset_peak_memory_stats()
        function()
    return torch.cuda.max_memory_allocated()


def measure_kernel(
    row: dict[str, Any], prepare: Callable[[dict[str, Any]], Callable[[], Any]], *, torch_version: str
) -> WorkloadResult:
    """Forecast of one kernel row: `prepare` makes weights and inputs on the GPU and returns the pass to measure."""
    with VirtualGPU(find_gpu(row["gpu"]), torch_version=torch_version, record=False) as gpu:
        peak = peak_of_repeated(prepare(row))
        return WorkloadResult(peak, gpu.peak_reserved_bytes, room=room_of_run(gpu))
