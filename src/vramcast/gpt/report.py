"""What a training run tells while it goes on, and what it comes to. Needs no torch: terminals and tests implement it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from vramcast.forecast import Forecast
from vramcast.result import Result

Ending = Literal["done", "interrupted"]


class StepReading(NamedTuple):
    """One optimizer step."""

    step: int
    """Steps done, this one included."""
    max_iters: int
    loss: float
    """Mean over the step's batches, in nats per token."""
    tokens_per_second: float
    """Of all processes, since the run was started; validation and checkpoints not counted."""
    memory_bytes: int
    """GPU: allocated now. CPU: resident memory of this process."""


class ValidationReading(Result):
    """A validation."""

    step: int
    nats_per_token: float
    bits_per_byte: float


class MeasuredPeaks(Result):
    """Peaks of the run as PyTorch's allocator counted them."""

    peak_allocated_bytes: int
    """`torch.cuda.max_memory_allocated()`."""
    peak_reserved_bytes: int
    """`torch.cuda.max_memory_reserved()`."""


class TrainingResult(Result):
    """What a run came to."""

    schema_version: int = 1
    name: str
    path: str
    ending: Ending
    signal_number: int | None = None
    """The signal that interrupted it."""
    step: int
    """Optimizer steps done, those before a resume included."""
    resumed_from: int | None = None
    """The step it went on from; None where it began with the first."""
    losses: tuple[float, ...]
    """Of every step of this call."""
    validation: ValidationReading | None = None
    """The last one of this call."""
    tokens_per_second: float | None = None
    parameters: int
    device: str
    processes: int = 1
    """How many trained together, each on a device of its own."""
    forecast: Forecast
    """Of one device."""
    measured: MeasuredPeaks | None = None
    """The highest of all processes; None without a GPU: CPU memory is not what a GPU forecast speaks of."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return self.model_dump(mode="json")


class ForecastReport(Protocol):
    """Who is told what comes before a run, and does nothing about what it does not care for."""

    def note(self, text: str) -> None:
        """Something that a user should know."""
        return

    def forecast(self, forecast: Forecast, gpu_is_present: bool) -> None:
        """The forecast, before anything is allocated."""
        return

    def working(self, what: str, done: int, total: int) -> None:
        """Something else than training takes long."""
        return


class TrainingReport(ForecastReport, Protocol):
    """Who listens to a training run. Only the main of several processes tells."""

    def step(self, reading: StepReading) -> None:
        """A step was done."""
        return

    def validation(self, reading: ValidationReading) -> None:
        """A validation was done, and a checkpoint saved after it."""
        return

    def end(self, result: TrainingResult) -> None:
        """The run is over."""
        return


class Silence(TrainingReport):
    """A report nobody reads."""
