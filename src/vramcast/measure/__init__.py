"""[torch] Readings of real steps beside their forecast: jobs measured, code watched, GPUs looked at.

A CUDA device is read through its allocator and the driver. On a CPU there is no caching allocator: the storages of all tensors are
followed instead (`storage_watch`), which is also how memory is told apart by category on both.
"""

from vramcast.late_names import late_names

__all__ = [
    "ForecastCallback",
    "Measurement",
    "announced_run",
    "measure_generation",
    "measure_training",
    "measured",
]

__getattr__ = late_names(
    __name__,
    {
        "announcement": ["announced_run"],
        "callback": ["ForecastCallback"],
        "generation": ["measure_generation"],
        "measurement": ["Measurement"],
        "surrounding": ["measured"],
        "training": ["measure_training"],
    },
)
