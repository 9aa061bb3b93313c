"""What forward leaves for backward, operator by operator, in fp32 and under fp16 autocast: which tensors stay fp32 and which are added."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from vramcast.forecast.answer import training_answer
from vramcast.job import TrainingJob
from vramcast.textbook.half_precision import HALF
from vramcast.timeline import Timeline

Events = Callable[[TrainingJob], Timeline]
"""Where a job's timeline comes from."""


@dataclass(frozen=True, slots=True)
class KeptTensors:
    """Activations that one operator made in one dtype. Bytes as asked of the allocator."""

    operator: str
    dtype: str
    fp32_bytes: int
    """In the fp32 run."""
    fp16_bytes: int
    """Under fp16 autocast."""


def kept_for_backward(timeline: Timeline) -> Counter[tuple[str, str]]:
    """Bytes of activations alive when the last forward is done, by operator and dtype."""
    last = max(position for name, position in timeline.mark_positions() if name == "after_forward")
    kept: Counter[tuple[str, str]] = Counter()
    for index in timeline.live_at(last):
        allocation = timeline.allocations[index]
        if allocation.category == "activations":
            kept[allocation.op, allocation.dtype] += allocation.nbytes
    return kept


def half_precision_tensors(job: TrainingJob, *, events: Events | None = None) -> tuple[KeptTensors, ...]:
    """Activations of `job` in fp32 and under fp16 autocast, the largest first; the job's own precision does not matter.

    Raises:
        MissingExtraError: the job has no tape yet and torch, which would record it, is not installed.
    """
    events = events or _timeline
    fp32 = kept_for_backward(events(job.model_copy(update={"precision": "fp32"})))
    fp16 = kept_for_backward(events(job.model_copy(update={"precision": HALF})))
    rows = (
        KeptTensors(operator, dtype, fp32[operator, dtype], fp16[operator, dtype]) for operator, dtype in fp32 | fp16
    )
    return tuple(sorted(rows, key=lambda row: (-max(row.fp32_bytes, row.fp16_bytes), row.operator, row.dtype)))


def _timeline(job: TrainingJob) -> Timeline:
    return training_answer(job).source.timeline()
