"""One job on the device that is present: forecast, run, read, compare. What training and generation have in common."""

from __future__ import annotations

import gc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import torch

from vramcast.allocator import AllocatorConfig
from vramcast.errors import InputError
from vramcast.job import GenerationJob, TrainingJob
from vramcast.measure.allocator_settings import differing_settings
from vramcast.measure.announcement import announced_run
from vramcast.measure.cpu_differences import cpu_differences
from vramcast.measure.device import (
    device_description,
    gpu_present,
    is_cuda,
    is_out_of_memory,
    missing_readings,
    read_cuda,
)
from vramcast.measure.live import forecast_live, live_readings
from vramcast.measure.measurement import Measurement, compare_instants, compare_live, compare_peaks
from vramcast.measure.memory_history import check_snapshot_path, memory_history
from vramcast.measure.storage_watch import StorageWatch
from vramcast.record.failures import explained
from vramcast.units import format_bytes

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.forecast.source import Source
    from vramcast.hardware import GPU
    from vramcast.models import ModelConfig
    from vramcast.record.building import ModelBuilder

Job = TypeVar("Job", TrainingJob, GenerationJob)
_UNTIL_FULL = "what is measured are the peaks until memory ran out; the job would have taken more"
_WATCHED_AGAIN = "categories are those of {what}, watched after the readings of the allocator; sizes are not rounded up"


class JobRun(ABC, Generic[Job]):
    """A job, its forecast, and how it is run."""

    workload: ClassVar[Literal["training", "generation"]]
    sizes: ClassVar[str]
    """Fields of the job that set the sizes of tensors, for messages."""

    def __init__(self, job: Job, config: ModelConfig, forecast: Forecast, source: Source) -> None:
        self.job: Job = job
        self.config, self.forecast, self.source = config, forecast, source
        self.device = "cuda" if is_cuda() else "cpu"

    @abstractmethod
    def builder(self) -> ModelBuilder:
        """What builds the model on the host, with random weights."""

    @abstractmethod
    def run_on_cuda(self, built: Any) -> tuple[Any, list[dict[str, Any]]]:
        """Run with nothing that looks on but readings at marks; returns what must be held, and the marks."""

    @abstractmethod
    def run_watched(self, watch: StorageWatch, built: Any, before: Any = None) -> Any:
        """Run under a watch that is on; `before` is what a run on CUDA left. Returns what must be held."""

    def notes(self, held: Any) -> list[str]:
        """What the comparison must say besides."""
        return []

    def vocab_size(self, model: Any) -> int:
        """Tokens are drawn below it."""
        return int(model.config.get_text_config().vocab_size)

    def allocator_config(self) -> AllocatorConfig:
        """Settings of the simulated allocator."""
        return AllocatorConfig(expandable_segments=self.job.expandable_segments)


def measured_job(prepare: Callable[[GPU | None], JobRun[Any]], *, snapshot: Path | None) -> Measurement:
    """Run a job and compare; see `measure_training`.

    Args:
        prepare: forecasts the job, for the card that is present if there is one.
        snapshot: see `measure_training`.
    """
    if snapshot is not None:
        check_snapshot_path(snapshot)
    run = prepare(gpu_present())
    build = run.builder()
    expected = forecast_live(run.source, run.workload, run.allocator_config()).to_dict()
    if not is_cuda():
        _check_host_memory(run, expected["peak_bytes"])
    started = time.monotonic()
    with announced_run(run.forecast), explained(run.job, run.sizes):
        measure = _measured_on_cuda if is_cuda() else _measured_on_cpu
        return measure(run, build, expected, started, snapshot)


def _measured_on_cpu(
    run: JobRun[Any], build: ModelBuilder, expected: dict[str, Any], started: float, snapshot: Path | None
) -> Measurement:
    built = build()
    with StorageWatch("cpu") as watch:
        held = run.run_watched(watch, built)
    live = live_readings(watch.timeline).to_dict()
    peak, categories = compare_live(expected, live)
    return Measurement(
        workload=run.workload,
        forecast=run.forecast,
        architecture=run.config.fields,
        peaks=(peak,),
        categories=categories,
        readings={"live": live, "attention_kernels": list(watch.attention_kernels)},
        notes=(*cpu_differences(run.job, run.forecast, run.source, watch), *build.notes, *run.notes(held)),
        seconds=round(time.monotonic() - started, 2),
        **device_description(),
    )


def _measured_on_cuda(
    run: JobRun[Any], build: ModelBuilder, expected: dict[str, Any], started: float, snapshot: Path | None
) -> Measurement:
    built, held = build(), None
    marks: list[dict[str, Any]] = []
    status: Literal["ok", "oom"] = "ok"
    message = ""
    notes = [*differing_settings(run.allocator_config()), *_emptied_allocator()]
    with memory_history(snapshot) as about_snapshot:
        try:
            held, marks = run.run_on_cuda(built)
            torch.cuda.synchronize()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            status, message = "oom", str(error).splitlines()[0]
            notes.append(_UNTIL_FULL)
        readings = read_cuda(marks)
    live, watched = (None, []) if held is None else _watched_on_cuda(run, built, held)
    categories = () if live is None else compare_live(expected, live)[1]
    return Measurement(
        workload=run.workload,
        status=status,
        message=message,
        forecast=run.forecast,
        architecture=run.config.fields,
        peaks=compare_peaks(run.forecast, readings),
        categories=categories,
        instants=compare_instants(run.forecast, marks),
        readings=readings if live is None else {**readings, "live": live},
        notes=(*notes, *watched, *about_snapshot, *missing_readings(readings), *build.notes, *run.notes(held)),
        seconds=round(time.monotonic() - started, 2),
        **device_description(),
    )


def _watched_on_cuda(run: JobRun[Any], built: Any, held: Any) -> tuple[dict[str, Any] | None, list[str]]:
    """Live tensors by category, and notes about them."""
    try:
        with StorageWatch("cuda") as watch:
            run.run_watched(watch, built, held)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None, ["categories could not be measured: the run that is watched did not fit beside what was left"]
    what = "one more step" if run.workload == "training" else "a second generation"
    return live_readings(watch.timeline).to_dict(), [_WATCHED_AGAIN.format(what=what)]


def _emptied_allocator() -> list[str]:
    """Forget what ran in this process before, so that the peaks are those of the job; says what is left of it all the same."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    left = torch.cuda.memory_allocated()
    return [f"the peaks hold {format_bytes(left)} that this process had allocated before"] if left else []


def _check_host_memory(run: JobRun[Any], needed_bytes: int) -> None:
    """Refuse what this machine's memory cannot hold, before it is tried."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed_bytes > total:
        values = " x ".join(str(getattr(run.job, name)) for name in run.sizes.split(" x "))
        have = f"live tensors of {format_bytes(needed_bytes)} are forecast, and this machine has {format_bytes(total)}"
        raise InputError(run.sizes, values, f"{have} of memory; measure a smaller job, or on a machine with a GPU")
