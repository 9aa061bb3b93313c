"""Forecast beside measurement around any code: `with measured(forecast) as run: ...`, then `run.show()`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import torch

from vramcast.errors import VramcastError
from vramcast.forecast import Forecast
from vramcast.measure.announcement import announced_run
from vramcast.measure.device import device_description, is_cuda, missing_readings, read_cuda
from vramcast.measure.live import live_readings
from vramcast.measure.measurement import Comparison, Measurement, compare_live, compare_peaks
from vramcast.measure.storage_watch import StorageWatch

ON_CPU = (
    "measured on the CPU, which has no caching allocator: the peak is that of live tensors that the code made or used, "
    "and a forecast for a GPU can only be set beside it"
)
FORECAST_OF_BLOCKS = "the forecast counts blocks of the CUDA allocator, rounded up, with library workspaces"


class measured:
    """Measures the code of its block.

    On CUDA the allocator's peaks are reset at the start (PyTorch keeps one set of them), unless `keep_peaks`; nothing else is touched
    and nothing slows down. On a CPU all tensors are watched below autograd, which costs some tens of microseconds an operator; with
    `watch=False` nothing is measured there.

        forecast = vramcast.training("gpt2", batch_size=8)
        with vramcast.measure.measured(forecast) as run:
            train()
        run.show()
        run.measurement.peaks
    """

    def __init__(self, forecast: Forecast | None = None, *, keep_peaks: bool = False, watch: bool = True) -> None:
        """Prepare.

        Args:
            forecast: what to compare with; without it the readings stand alone.
            keep_peaks: do not reset the allocator's peaks, which then are those of the process so far.
            watch: follow all tensors on a machine without CUDA.
        """
        self.forecast = forecast
        self._keep_peaks, self._wants_watch = keep_peaks, watch
        self._watch: StorageWatch | None = None
        self._stack: ExitStack | None = None
        self._started = 0.0
        self._measurement: Measurement | None = None

    def __enter__(self) -> measured:
        with ExitStack() as stack:
            if self.forecast is not None:
                stack.enter_context(announced_run(self.forecast))
            if is_cuda():
                torch.cuda.synchronize()
                if not self._keep_peaks:
                    torch.cuda.reset_peak_memory_stats()
            elif self._wants_watch:
                self._watch = stack.enter_context(StorageWatch("cpu"))
            self._stack = stack.pop_all()
        self._started = time.monotonic()
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._stack is not None
        seconds = round(time.monotonic() - self._started, 2)
        # Readings first: what the block leaves is still alive, and an error of the block passes all the same.
        readings = read_cuda([]) if is_cuda() else {}
        stack, self._stack = self._stack, None
        stack.__exit__(*exception)
        self._measurement = self._measured(readings, seconds)

    @property
    def measurement(self) -> Measurement:
        """What was measured, once the block is left.

        Raises:
            VramcastError: the block still runs.
        """
        if self._measurement is None:
            raise VramcastError("measurement: not there before the block of measured() is left")
        return self._measurement

    def show(self) -> None:
        """Print forecast beside measurement."""
        from rich.console import Console

        from vramcast.views.measure_terminal import print_measurement

        print_measurement(self.measurement, Console())

    def _measured(self, readings: dict[str, Any], seconds: float) -> Measurement:
        peaks: tuple[Comparison, ...] = compare_peaks(self.forecast, readings)
        categories: tuple[Comparison, ...] = ()
        notes = tuple(missing_readings(readings))
        if not is_cuda():
            notes = (ON_CPU,)
        if self._watch is not None:
            live = live_readings(self._watch.timeline).to_dict()
            readings = {"live": live, "attention_kernels": list(self._watch.attention_kernels)}
            expected = None if self.forecast is None else _as_live(self.forecast)
            peak, categories = compare_live(expected, live)
            peaks = (peak,)
            notes += () if self.forecast is None else (FORECAST_OF_BLOCKS,)
        return Measurement(
            workload="code" if self.forecast is None else self.forecast.workload,
            forecast=self.forecast,
            peaks=peaks,
            categories=categories,
            readings=readings,
            notes=notes,
            seconds=seconds,
            **device_description(),
        )


def _as_live(forecast: Forecast) -> dict[str, Any]:
    """The breakdown of a forecast without workspaces; the best that a forecast alone can say of live tensors."""
    breakdown = {item.category: item.bytes for item in forecast.breakdown if item.category != "workspace"}
    return {"peak_bytes": sum(breakdown.values()), "breakdown": breakdown}
