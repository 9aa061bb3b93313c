"""A forecast of whatever code ran on a virtual GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vramcast.forecast.build import build_forecast
from vramcast.forecast.forecast import Forecast
from vramcast.forecast.source import RecordedSource

if TYPE_CHECKING:
    from vramcast.virtual_cuda import VirtualGPU


def forecast_of_run(machine: VirtualGPU, name: str = "code") -> Forecast:
    """The forecast of everything the virtual GPU has recorded so far."""
    return build_forecast(
        RecordedSource(machine.recording()),
        machine.gpu,
        workload="code",
        model=name,
        settings={},
        allocator_config=machine.allocator_config,
    )
