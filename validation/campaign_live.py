"""Records of a CPU: live tensors, forecast beside measured, for machines without a CUDA allocator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vramcast.allocator import AllocatorConfig
from vramcast.forecast.answer import generation_answer, training_answer
from vramcast.job import GenerationJob, TrainingJob
from vramcast.measure.live import forecast_live
from vramcast.measure.records import Record

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One record and its forecast, in bytes: the largest sum of live tensors and what it was made of."""

    id: str
    kind: str
    job: dict[str, Any]
    measured_bytes: int
    predicted_bytes: int
    categories: dict[str, tuple[int, int]]
    """Category -> (measured, predicted) at the peak of each."""

    @property
    def percent(self) -> float:
        """Error of the peak; positive where too much was forecast."""
        return 100 * (self.predicted_bytes - self.measured_bytes) / self.measured_bytes

    @property
    def worst_category(self) -> str:
        """The category that differs by most bytes; empty where none does."""
        name, (measured, predicted) = max(self.categories.items(), key=lambda item: abs(item[1][1] - item[1][0]))
        return "" if measured == predicted else f"{name} {predicted - measured:+,} bytes"


def live_row(record: Record, model: str, options: dict[str, Any]) -> LiveRow:
    """The row of a record whose readings have `live`.

    Args:
        record: measured on a CPU.
        model: path of the model's config.json.
        options: fields of vramcast's job.
    """
    answer: Any
    if record.kind == "training":
        answer = training_answer(TrainingJob(model=model, **options), offline=True)
    else:
        answer = generation_answer(GenerationJob(model=model, **options), offline=True)
    predicted, measured = forecast_live(answer.source, record.kind, AllocatorConfig()), record.readings["live"]
    names = dict.fromkeys([*measured["breakdown"], *predicted.breakdown])
    return LiveRow(
        id=record.id,
        kind=record.kind,
        job=record.job,
        measured_bytes=measured["peak_bytes"],
        predicted_bytes=predicted.peak_bytes,
        categories={
            name: (measured["breakdown"].get(name, 0), predicted.breakdown.get(name, 0))  # type: ignore[call-overload]
            for name in names
        },
    )


def print_live_rows(rows: list[LiveRow]) -> None:
    """Sizes in MiB, the worst first."""
    print(f"{'live tensors on the CPU, MiB':40}{'measured':>12}{'forecast':>12}{'%':>9}  largest difference")
    for row in sorted(rows, key=lambda row: -abs(row.percent)):
        print(
            f"{row.id:40}{row.measured_bytes / _MIB:12.3f}{row.predicted_bytes / _MIB:12.3f}"
            f"{row.percent:+9.3f}  {row.worst_category}"
        )
