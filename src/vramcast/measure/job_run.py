"""One job on the device that is present: forecast, run, read, compare. What training and generation have in common."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import torch

from vramcast.allocator import AllocatorConfig
from vramcast.errors import InputError, UnknownGPUError
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.measure.announcement import announced_run
from vramcast.measure.cpu_differences import cpu_differences
from vramcast.measure.device import device_description, is_cuda, read_cuda
from vramcast.measure.live import forecast_live, live_readings
from vramcast.measure.measurement import Measurement, compare_instants, compare_live, compare_peaks
from vramcast.measure.memory_history import memory_history
from vramcast.measure.storage_watch import StorageWatch
from vramcast.models import load_model
from vramcast.record.failures import explained
from vramcast.units import MIB, format_bytes

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.forecast.source import Source
    from vramcast.models import ModelConfig
    from vramcast.record.building import ModelBuilder

Job = TypeVar("Job", TrainingJob, GenerationJob)
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


def measured_job(
    job: Job, prepare: Callable[[Job, ModelConfig], JobRun[Job]], *, offline: bool, snapshot: Path | None
) -> Measurement:
    """Forecast and run a job; see `measure_training`."""
    if snapshot is not None and not is_cuda():
        raise InputError("snapshot", str(snapshot), "there is no CUDA device here, and so no allocator to take it of")
    run = prepare(_on_this_device(job), load_model(job.model, offline=offline))
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
    with memory_history(snapshot):
        try:
            held, marks = run.run_on_cuda(built)
            torch.cuda.synchronize()
        except torch.OutOfMemoryError as error:
            status, message = "oom", str(error).splitlines()[0]
        readings = read_cuda(marks)
    live, watched = (None, "") if held is None else _watched_on_cuda(run, built, held)
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
        notes=tuple(note for note in (watched, *build.notes, *run.notes(held)) if note),
        seconds=round(time.monotonic() - started, 2),
        **device_description(),
    )


def _watched_on_cuda(run: JobRun[Any], built: Any, held: Any) -> tuple[dict[str, Any] | None, str]:
    """Live tensors by category, and a note about them."""
    try:
        with StorageWatch("cuda") as watch:
            run.run_watched(watch, built, held)
    except torch.OutOfMemoryError:
        return None, "categories could not be measured: the run that is watched did not fit beside what was left"
    what = "one more step" if run.workload == "training" else "a second generation"
    return live_readings(watch.timeline).to_dict(), _WATCHED_AGAIN.format(what=what)


def _on_this_device(job: Job) -> Job:
    """The job with the card that is present, on a machine that has one."""
    if not is_cuda():
        return job
    name = torch.cuda.get_device_name(0)
    try:
        card: dict[str, str | None] = {"gpu": find_gpu(name).name, "gpu_memory": None}
    except UnknownGPUError:
        card = {"gpu": "custom", "gpu_memory": f"{torch.cuda.mem_get_info()[1] // MIB}MiB"}
    return job.model_copy(update=card)


def _check_host_memory(run: JobRun[Any], needed_bytes: int) -> None:
    """Refuse what this machine's memory cannot hold, before it is tried."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed_bytes > total:
        values = " x ".join(str(getattr(run.job, name)) for name in run.sizes.split(" x "))
        have = f"live tensors of {format_bytes(needed_bytes)} are forecast, and this machine has {format_bytes(total)}"
        raise InputError(run.sizes, values, f"{have} of memory; measure a smaller job, or on a machine with a GPU")
