"""All documents of the textbook beside the truth, and the question that one of them ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vramcast.explain.textbook_json import half_precision_json, rows_json
from vramcast.job import TrainingJob
from vramcast.progress import Progress
from vramcast.textbook import (
    HalfPrecisionAnswer,
    KeptTensors,
    TextbookRow,
    documents,
    forecast_answer,
    half_precision_tensors,
    why_fp16_saves_little,
)

HALF_PRECISION_JOB = TrainingJob(model="gpt2", batch_size=8, sequence_length=1024, attention="eager", gpu="v100-32gb")
"""The larger job of the document that asks why fp16 saves little."""


@dataclass(frozen=True, slots=True)
class Guides:
    """What the guides print, beside the truth."""

    rows: tuple[TextbookRow, ...]
    half_precision: HalfPrecisionAnswer
    tensors: tuple[KeptTensors, ...]
    """Kept for backward in the larger of the two jobs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return {
            "documents": rows_json(self.rows),
            "half_precision": half_precision_json(self.half_precision, self.tensors),
        }


def guides(progress: Progress | None = None) -> Guides:
    """Every document; its models are presets, so the Hub is never asked.

    Raises:
        MissingExtraError: a tape is not there and torch, which would record it, is not installed.
    """
    answer = forecast_answer(offline=True)
    rows = documents(answer=answer, progress=progress)
    return Guides(rows, why_fp16_saves_little(answer=answer), half_precision_tensors(HALF_PRECISION_JOB))
