"""`vramcast measure`: the real step on the device that is present, forecast beside measurement."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from vramcast.cli.parameters import EXIT_DOES_NOT_FIT, EXIT_DONE, JsonFlag, ModelArgument, OfflineFlag, TraceFlag
from vramcast.cli.showing import print_json, progress_on_terminal
from vramcast.errors import InputError, check_installed
from vramcast.job import GenerationJob, GenerationOptions, TrainingJob, TrainingOptions
from vramcast.measure.allocator_settings import set_allocator
from vramcast.measure.records import check_appendable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vramcast.measure.measurement import Measurement
    from vramcast.progress import Progress

measure = App(
    name="measure",
    help="Run the real step with random weights on the device present: forecast beside measurement, error by category.",
    result_action="return_value",
)

RecordFlag = Annotated[Path | None, Parameter(help="JSON-lines file that a record of the measurement is added to.")]
SnapshotFlag = Annotated[Path | None, Parameter(help="Where PyTorch's memory snapshot of the run is written (CUDA).")]


@measure.command
def training(
    model: ModelArgument,
    /,
    *,
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    steps: Annotated[int, Parameter(help="Optimizer steps; the forecast is that of three.")] = 3,
    record: RecordFlag = None,
    snapshot: SnapshotFlag = None,
    trace: TraceFlag = False,
    json: JsonFlag = False,
    offline: OfflineFlag = False,
) -> int:
    """Forecast a training job, run its real steps, and print both. Exit code 1 where the device ran out of memory."""
    if steps < 1:
        raise InputError("--steps", steps, "must be at least 1")
    job = TrainingJob(model=model, **options.model_dump())
    with _ready(job, record) as progress:
        from vramcast.measure.training import measure_training

        measured = measure_training(
            job, steps=steps, offline=offline, trace=trace, snapshot=snapshot, progress=progress
        )
    return _finish(measured, record, json)


@measure.command
def generation(
    model: ModelArgument,
    /,
    *,
    options: Annotated[GenerationOptions, Parameter(name="*")] = GenerationOptions(),  # noqa: B008  (frozen)
    record: RecordFlag = None,
    snapshot: SnapshotFlag = None,
    trace: TraceFlag = False,
    json: JsonFlag = False,
    offline: OfflineFlag = False,
) -> int:
    """Forecast a generation job, run it, and print both. Exit code 1 where the device ran out of memory."""
    job = GenerationJob(model=model, **options.model_dump())
    with _ready(job, record) as progress:
        from vramcast.measure.generation import measure_generation

        measured = measure_generation(job, offline=offline, trace=trace, snapshot=snapshot, progress=progress)
    return _finish(measured, record, json)


@contextmanager
def _ready(job: TrainingJob | GenerationJob, record: Path | None) -> Iterator[Progress | None]:
    """Refuse what cannot be done before torch is imported, whose allocator reads its settings once."""
    check_installed("measuring a real step", "measure", "torch", "transformers")
    if record is not None:
        check_appendable(record)
    if "torch" not in sys.modules:
        for note in set_allocator(f"expandable_segments:{job.expandable_segments}"):
            print(f"vramcast: {note}", file=sys.stderr)
    with progress_on_terminal() as progress:
        yield progress


def _finish(measured: Measurement, record: Path | None, as_json: bool) -> int:
    if record is not None:
        from vramcast.measure.recording import append_measurement

        append_measurement(record, measured)
    if as_json:
        print_json(measured.to_dict())
    else:
        from rich.console import Console

        from vramcast.views.measure_terminal import print_measurement

        print_measurement(measured, Console())
    return EXIT_DOES_NOT_FIT if measured.status == "oom" else EXIT_DONE
