"""A figure set beside the forecast of its job."""

from collections.abc import Callable
from fractions import Fraction

from vramcast.errors import VramcastError
from vramcast.forecast import Forecast, generation_forecast, training_forecast
from vramcast.job import TrainingJob
from vramcast.progress import Progress
from vramcast.textbook.claim import format_value
from vramcast.textbook.figure import Job, TextbookFigure, TextbookRow
from vramcast.textbook.quantity import facts, read_quantity

Answer = Callable[[Job], Forecast]
"""Where the truth comes from."""


def forecast_answer(*, offline: bool = False, progress: Progress | None = None) -> Answer:
    """The real answer: a forecast of the job, made once for each."""

    def answer(job: Job) -> Forecast:
        if isinstance(job, TrainingJob):
            return training_forecast(job, offline=offline, progress=progress)
        return generation_forecast(job, offline=offline, progress=progress)

    return remembering(answer)


def remembering(answer: Answer) -> Answer:
    """`answer` that is asked once for each job."""
    known: dict[Job, Forecast] = {}

    def remembered(job: Job) -> Forecast:
        if job not in known:
            known[job] = answer(job)
        return known[job]

    return remembered


def compare(figure: TextbookFigure, answer: Answer | None = None, departures: tuple[str, ...] = ()) -> TextbookRow:
    """The row of a figure: what is claimed, what is true, and why they differ."""
    if figure.claimed_for is None:
        return TextbookRow(figure, figure.claim.low, None, figure.claim.unit, figure.reason)
    answer = answer or forecast_answer()
    if figure.relation == "largest_batch":
        return _largest_batch_row(figure, figure.claimed_for, answer)
    forecast = answer(figure.claimed_for)
    second = None if figure.second_job is None else answer(figure.second_job)
    if figure.relation == "fits":
        return _card_row(figure, forecast)
    true_value = _truth(figure, forecast, second)
    claimed = figure.claim.nearest(true_value)
    reason = _told(figure, true_value, forecast, second)
    return TextbookRow(figure, claimed, true_value, figure.claim.unit, reason, departures=departures)


def largest_batch_that_fits(job: Job, answer: Answer) -> int:
    """Largest batch size at which the verdict is not `does_not_fit`, found step by step from the job's own; 0 where none fits."""
    batch_size = job.batch_size
    if _fits(job, batch_size, answer):
        while _fits(job, batch_size + 1, answer):
            batch_size += 1
        return batch_size
    while batch_size > 0 and not _fits(job, batch_size, answer):
        batch_size -= 1
    return batch_size


def _fits(job: Job, batch_size: int, answer: Answer) -> bool:
    return answer(_at_batch(job, batch_size)).verdict != "does_not_fit"


def _at_batch(job: Job, batch_size: int) -> Job:
    return job.model_copy(update={"batch_size": batch_size})


def _largest_batch_row(figure: TextbookFigure, job: Job, answer: Answer) -> TextbookRow:
    batch_size = largest_batch_that_fits(job, answer)
    forecast = answer(_at_batch(job, max(batch_size, 1)))
    reason = _told(figure, batch_size, forecast, None)
    return TextbookRow(figure, figure.claim.low, batch_size, "count", reason)


def _card_row(figure: TextbookFigure, forecast: Forecast) -> TextbookRow:
    memory, used = forecast.gpu_memory_bytes, forecast.device_used_bytes
    reason = _told(figure, used, forecast, None)
    return TextbookRow(figure, memory, used, "bytes", reason, holds=forecast.verdict != "does_not_fit")


def _truth(figure: TextbookFigure, forecast: Forecast, second: Forecast | None) -> float:
    value = read_quantity(forecast, figure.quantity)
    if figure.relation == "alone":
        return _scaled(value, figure.scale)
    if second is None:
        raise VramcastError(f"{figure.document}.toml, {figure.name!r}: relation {figure.relation!r} needs a second_job")
    other = read_quantity(second, figure.quantity)
    if figure.relation == "difference":
        return _scaled(value - other, figure.scale)
    return value / other if figure.relation == "ratio" else 1 - value / other


def _scaled(value: float, scale: Fraction) -> float:
    # Counts and bytes stay exact: an int wherever the product is one.
    product = Fraction(value) * scale
    return product.numerator if product.denominator == 1 else float(product)


def _told(figure: TextbookFigure, true_value: float, forecast: Forecast, second: Forecast | None) -> str:
    words = facts(forecast) | ({} if second is None else facts(second, "second_"))
    words["true"] = format_value(true_value, figure.claim.unit)
    return figure.reason.format_map(words)
