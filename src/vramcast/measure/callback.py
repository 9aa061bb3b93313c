"""Forecast beside measurement inside transformers' `Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from vramcast.measure.surrounding import measured

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.measure.measurement import Measurement


class ForecastCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """`Trainer(..., callbacks=[ForecastCallback(vramcast.training("gpt2", batch_size=8))])`.

    Measures from the beginning of training to its end, prints forecast beside measurement, and adds the peaks to the log of the
    trainer's state as `memory_peak_..._bytes`. On a machine without CUDA all tensors are watched, which slows training down; with
    `watch=False` nothing is measured there. An error that ends training is not seen by callbacks: nothing is printed then.
    """

    def __init__(self, forecast: Forecast | None = None, *, show: bool = True, watch: bool = True) -> None:
        """Prepare.

        Args:
            forecast: what to compare with, such as `vramcast.training(...)` of the same job.
            show: print the comparison at the end, on the main process.
            watch: follow all tensors on a machine without CUDA.
        """
        self.forecast, self.show, self.watch = forecast, show, watch
        self.measurement: Measurement | None = None
        """What was measured, once training is done."""
        self._run: measured | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to measure."""
        self._run = measured(self.forecast, watch=self.watch)
        self._run.__enter__()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read, compare, print."""
        if self._run is None:
            return
        run, self._run = self._run, None
        run.__exit__(None, None, None)
        self.measurement = run.measurement
        peaks = {f"memory_{peak.name}": peak.measured_bytes for peak in self.measurement.peaks}
        state.log_history.append({"step": state.global_step, **peaks})
        if self.show and state.is_world_process_zero:
            run.show()
