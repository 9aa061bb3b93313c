"""Runs workloads, each in a fresh process."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from validation.published import Published
from validation.workloads import Workload
from validation.workloads.result import WorkloadResult

PROCESSES = 2


@dataclass(frozen=True)
class Comparison:
    """A published figure and its forecast; `failure` is the error that kept the workload from one."""

    published: Published
    result: WorkloadResult | None
    failure: str = ""

    @property
    def predicted_bytes(self) -> int | None:
        """The forecast of the figure that was published."""
        if self.result is None:
            return None
        return predicted_bytes(self.published, self.result)

    @property
    def error(self) -> float | None:
        """Signed relative error, or None where there is no forecast."""
        predicted = self.predicted_bytes
        return None if predicted is None else (predicted - self.published.value_bytes) / self.published.value_bytes


def predicted_bytes(published: Published, result: WorkloadResult) -> int:
    """The figure of a result that a row's metric asks for.

    Raises:
        ValueError: the source does not say which figure it published.
    """
    if published.kind == "allocated":
        return result.peak_allocated_bytes
    if published.kind == "reserved":
        return result.peak_reserved_bytes
    if published.kind == "nvidia-smi":
        return result.peak_reserved_bytes + _outside_bytes(result)
    raise ValueError(f"{published.id}: the source does not say which memory figure it published")


def _outside_bytes(result: WorkloadResult) -> int:
    """What the source says is outside PyTorch's allocator, else what the forecast takes it to be."""
    if result.device_extra_bytes is not None:
        return result.device_extra_bytes
    return 0 if result.room is None else result.room.outside_bytes


def compare(published: Published, workload: Workload) -> Comparison:
    """Run one workload in this process; its error becomes the row's, so that the others still run."""
    try:
        return Comparison(published, workload(dict(published.fields)))
    except Exception as error:  # a report of all rows must not end at the first that fails
        return Comparison(published, None, f"{type(error).__name__}: {error}")


def run_all(
    rows: Sequence[Published], workloads: dict[str, Workload], processes: int = PROCESSES
) -> Iterator[Comparison]:
    """Comparisons in the order in which they finish; a process is used once, so no run sees another's state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vramcast.virtual_cuda", "validation.workloads"])
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        futures = [pool.submit(compare, row, workloads[row.id]) for row in rows]
        for future in as_completed(futures):
            yield future.result()
