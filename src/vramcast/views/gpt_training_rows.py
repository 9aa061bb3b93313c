"""A training run as plain rows of text: its steps, its ending, forecast beside measurement."""

from typing import NamedTuple

from vramcast.forecast import Forecast
from vramcast.gpt.report import MeasuredPeaks, StepReading, TrainingResult, ValidationReading
from vramcast.units import format_gib


class PeakComparison(NamedTuple):
    """One peak, forecast and measured."""

    name: str
    forecast: str
    measured: str
    error: str
    """Of the forecast, relative to the measurement: `+0.03%`."""


def comparison_rows(forecast: Forecast, measured: MeasuredPeaks) -> list[PeakComparison]:
    """Both peaks that PyTorch's allocator counts."""
    pairs = (
        ("peak allocated", forecast.peak_allocated_bytes, measured.peak_allocated_bytes),
        ("peak reserved", forecast.peak_reserved_bytes, measured.peak_reserved_bytes),
    )
    return [
        PeakComparison(name, format_gib(told), format_gib(found), f"{told / found - 1:+.2%}" if found else "")
        for name, told, found in pairs
    ]


def step_line(reading: StepReading) -> str:
    """`loss 4.1234  12,345 tokens/s  1.20 GiB`."""
    return f"loss {reading.loss:.4f}  {reading.tokens_per_second:,.0f} tokens/s  {format_gib(reading.memory_bytes)}"


def validation_line(reading: ValidationReading) -> str:
    """`step 100: validation loss 4.0000 nats per token, 2.1000 bits per byte; saved`."""
    losses = f"{reading.nats_per_token:.4f} nats per token, {reading.bits_per_byte:.4f} bits per byte"
    return f"step {reading.step}: validation loss {losses}; saved"


def ending_line(result: TrainingResult) -> str:
    """Where the run ended and what it left."""
    if result.ending == "done" and not result.losses:
        return f"nothing to train: {result.path} is at step {result.step}, and --max-iters asks for no more"
    ending = "trained" if result.ending == "done" else "interrupted"
    speed = "" if result.tokens_per_second is None else f", {result.tokens_per_second:,.0f} tokens/s on {result.device}"
    return f"{ending} to step {result.step}{speed}; saved in {result.path}"


def one_of_many(result: TrainingResult) -> str:
    """`each of 2 ` where several processes trained together."""
    return "" if result.processes == 1 else f"each of {result.processes} "


def not_comparable_line(result: TrainingResult) -> str:
    """Why there is no measurement."""
    reserved = format_gib(result.forecast.peak_reserved_bytes)
    return (
        f"forecast peak reserved {reserved} on {one_of_many(result)}{result.forecast.gpu}; it ran on the {result.device}, "
        "whose memory is not comparable with a GPU's"
    )
