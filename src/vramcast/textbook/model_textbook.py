"""Every formula of the textbook at the sizes of one model and one job, beside that job's forecast."""

from collections.abc import Iterator
from dataclasses import dataclass

from vramcast.forecast import Forecast
from vramcast.job import GenerationJob
from vramcast.models import load_model
from vramcast.textbook.assumptions import departures
from vramcast.textbook.claim import computed_claim
from vramcast.textbook.compare import Answer, compare, forecast_answer
from vramcast.textbook.documents import all_documents
from vramcast.textbook.figure import Job, TextbookFigure, TextbookRow
from vramcast.textbook.formula import Formula
from vramcast.textbook.sizes import job_sizes


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """A formula that says nothing about this job."""

    formula: Formula
    reason: str


@dataclass(frozen=True, slots=True)
class ModelTextbook:
    """What the guides would say about a job, and what is true."""

    forecast: Forecast
    rows: tuple[TextbookRow, ...]
    not_applicable: tuple[NotApplicable, ...]


def for_model(job: Job, *, answer: Answer | None = None, offline: bool = False) -> ModelTextbook:
    """Every formula that speaks of this kind of job, evaluated at its model's dimensions.

    A formula whose assumptions the model breaks is evaluated all the same, as a reader of the guide would do it; the row's
    `departures` say what does not hold.

    Args:
        job: any model, batch, sequence length and precision.
        answer: where the truth comes from; the real forecast if not given.
        offline: never ask the Hub.

    Raises:
        InputError: the model or a field of the job is not usable.
        MissingExtraError: the forecast needs torch, which is not installed.
    """
    config = load_model(job.model, offline=offline, ignore_quantization=job.ignore_quantization)
    answer = answer or forecast_answer(offline=offline)
    forecast = answer(job)
    sizes = job_sizes(config, job, forecast.parameters)
    formulas = [formula for document in all_documents() for formula in document.formulas]
    refused = {formula.document + formula.name: why for formula in formulas if (why := _why_not(formula, job, sizes))}
    rows = tuple(
        compare(_figure(formula, job, sizes), lambda _: forecast, departures(formula.assumes, config, job))
        for formula in formulas
        if formula.document + formula.name not in refused
    )
    left = tuple(NotApplicable(formula, why) for formula, why in _refused(formulas, refused))
    return ModelTextbook(forecast, rows, left)


def _why_not(formula: Formula, job: Job, sizes: dict[str, int]) -> str | None:
    workload = "generation" if isinstance(job, GenerationJob) else "training"
    if not formula.workloads:
        return formula.reason
    if workload not in formula.workloads:
        return f"is about {' and '.join(formula.workloads)}"
    missing = [name for name in formula.sizes if name not in sizes]
    return f"needs {', '.join(missing)}, which the job does not say" if missing else None


def _refused(formulas: list[Formula], refused: dict[str, str]) -> Iterator[tuple[Formula, str]]:
    for formula in formulas:
        if formula.document + formula.name in refused:
            yield formula, refused[formula.document + formula.name]


def _figure(formula: Formula, job: Job, sizes: dict[str, int]) -> TextbookFigure:
    value = formula.evaluate(sizes)
    return TextbookFigure(
        document=formula.document,
        section=formula.document,
        name=formula.name.replace("_", " "),
        claim=computed_claim(value, formula.unit),
        claimed_for=job,
        quantity=formula.quantity,
        reason=formula.reason,
        formula_text=formula.text,
        formula_value=value,
        scale=formula.truth_scale(sizes["bytes_per_value"], sizes["batch_size"]),
    )
