"""Where each byte of a training job comes from: the live set at the peak, the formula, the switches, the textbook."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, InstanceOf, field_serializer

from vramcast.errors import InputError, MissingExtraError
from vramcast.explain.formula import PeakFormula, peak_formula
from vramcast.explain.textbook_json import textbook_json
from vramcast.explain.tree import MemoryNode, memory_tree
from vramcast.forecast import Forecast, training_forecast
from vramcast.forecast.answer import TrainingAnswer, training_answer
from vramcast.forecast.readings import Readings
from vramcast.forecast.source import TapeSource
from vramcast.job import TrainingJob
from vramcast.job.checking import checked_job
from vramcast.models import load_model
from vramcast.plan import Advice, advise
from vramcast.progress import Progress
from vramcast.textbook import ModelTextbook, for_model

SCHEMA_VERSION = 1


class PeakInstant(BaseModel):
    """When the allocated peak is reached, and by which tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: int
    """Optimizer step, counted from 1; 0 while the model is loaded."""
    phase: str
    module: str
    """Of the tensor whose allocation reached the peak."""
    op: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    """Of its block."""


class Explanation(BaseModel):
    """Where each byte of a training job comes from, in integers of bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA_VERSION
    forecast: Forecast
    instant: PeakInstant
    tree: MemoryNode
    """Everything alive at the allocated peak, in full; sums to it exactly."""
    formula: PeakFormula | None
    why_no_formula: str = ""
    advice: Advice
    textbook: InstanceOf[ModelTextbook]

    @field_serializer("textbook")
    def _textbook(self, book: ModelTextbook) -> list[dict[str, Any]]:
        return textbook_json(book)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return self.model_dump(mode="json")


def explain_model(model: str, *, offline: bool = False, progress: Progress | None = None, **fields: Any) -> Explanation:
    """Explain a training job; `fields` are those of `vramcast.job.TrainingJob`.

    Raises:
        InputError: a field is unknown or its value not usable.
        MissingExtraError: torch is needed for the job itself and not installed.
    """
    job = checked_job(TrainingJob, {"model": model, **fields})
    answer = training_answer(job, offline=offline, progress=progress)
    return explanation_of(answer, offline=offline, progress=progress)


def explanation_of(answer: TrainingAnswer, *, offline: bool = False, progress: Progress | None = None) -> Explanation:
    """Explain a job that was answered; errors as for `explain_model`."""
    readings = answer.readings
    live = readings.live_at_peak()
    youngest, block_bytes = live[-1]
    formula, why_no_formula = _formula(answer, offline)
    return Explanation(
        forecast=answer.forecast,
        instant=PeakInstant(
            step=_step(readings),
            phase=youngest.phase,
            module=youngest.module,
            op=youngest.op,
            dtype=youngest.dtype,
            shape=tuple(youngest.shape),
            bytes=block_bytes,
        ),
        tree=memory_tree(live),
        formula=formula,
        why_no_formula=why_no_formula,
        advice=_advice(answer, offline, progress),
        textbook=for_model(answer.job, answer=lambda _: answer.forecast, offline=offline),
    )


def _step(readings: Readings) -> int:
    before = readings.marks_before_peak
    return before.count("after_step") + ("after_load" in before)


def _formula(answer: TrainingAnswer, offline: bool) -> tuple[PeakFormula | None, str]:
    source = answer.source
    if not isinstance(source, TapeSource):
        return None, "the job was traced at full size, which gives numbers and no formula"
    job = answer.job
    dimensions = load_model(job.model, offline=offline, ignore_quantization=job.ignore_quantization).dimensions
    capability = answer.gpu.kernel_capability
    allocated = answer.forecast.peak_allocated_bytes
    return peak_formula(source.bound, capability, allocated, dimensions.context_length), ""


def _advice(answer: TrainingAnswer, offline: bool, progress: Progress | None) -> Advice:
    def forecast(changed: TrainingJob) -> Forecast:
        if changed == answer.job:
            return answer.forecast
        try:
            return training_forecast(changed, offline=offline)
        except MissingExtraError as error:
            # One switch whose tape is not there must not hide what the others save; its row says what is missing.
            raise InputError("tape", "missing", str(error)) from error

    return advise(answer.job, answer.gpu, forecast, progress)
