"""From a job to a forecast: the tape or trace that answers it, the allocator's replay, and what is read off it."""

from vramcast.forecast.answer import generation_forecast, training_forecast
from vramcast.forecast.forecast import BreakdownItem, Forecast, Instant
from vramcast.forecast.run import forecast_of_run

__all__ = ["BreakdownItem", "Forecast", "Instant", "forecast_of_run", "generation_forecast", "training_forecast"]
