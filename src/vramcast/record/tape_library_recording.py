"""Records planned tapes in several processes, and keeps each as a file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from vramcast.errors import RecordingError
from vramcast.hardware import find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.record.tape_library_plan import Part, PlannedTape
from vramcast.tapes import Tape, TapeError
from vramcast.tapes.archive import Archive
from vramcast.tapes.format import dump, read_tape
from vramcast.tapes.key import settings_digest
from vramcast.whole_file import replacing


@dataclass(frozen=True)
class Outcome:
    """What became of a planned tape."""

    planned: PlannedTape
    error: str | None = None
    """Why there is none."""
    left: PlannedTape | None = None
    """The same regime again, for the questions that the tape leaves open; it is recorded as well."""


@dataclass(frozen=True)
class WorkFolder:
    """Finished tapes, one file each."""

    folder: Path

    def path(self, planned: PlannedTape) -> Path:
        """Where a tape is kept."""
        return self.folder / f"{planned.name}.json.gz"

    def tape(self, planned: PlannedTape) -> Tape | None:
        """A finished tape; None where there is none, or one that was damaged."""
        try:
            return read_tape(self.path(planned))
        except TapeError:
            return None


def keep_shipped(plan: Sequence[PlannedTape], library: Path, work: WorkFolder) -> int:
    """Put the tapes of a library that still answer what is planned into the work folder, so that only the others are recorded.

    Returns:
        How many were kept.

    Raises:
        TapeError: an archive is damaged; the message names it.
    """
    work.folder.mkdir(parents=True, exist_ok=True)
    archives = {path.name: Archive(path) for path in library.glob("*.zip")}
    kept = 0
    for planned in (each for each in plan if each.archive in archives):
        wanted: PlannedTape | None = planned
        for tape in archives[planned.archive].tapes(settings_digest(planned.key)):
            if wanted is not None and wanted.questions[0].why_not(tape) is None:
                with replacing(work.path(wanted)) as unfinished:
                    unfinished.write_bytes(dump(tape))
                wanted, kept = wanted.without(tape), kept + 1
    return kept


def record_tapes(plan: Sequence[PlannedTape], work: WorkFolder, processes: int) -> Iterator[Outcome]:
    """Record what is not in the work folder yet; outcomes come as they are done, those found finished first."""
    work.folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for planned in plan:
        wanted: PlannedTape | None = planned
        while wanted is not None and work.tape(wanted) is not None:
            outcome = _outcome(wanted, None, work)
            wanted = outcome.left
            yield outcome
        if wanted is not None:
            missing.append(wanted)
    if missing:
        yield from _recorded(missing, work, processes)


def _recorded(plan: Sequence[PlannedTape], work: WorkFolder, processes: int) -> Iterator[Outcome]:
    # Spawned, not forked: a fork would copy whatever threads and state this process has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(plan)), mp_context=context, initializer=_prepare) as pool:

        def submit(planned: PlannedTape) -> None:
            running[pool.submit(_record, planned.part, planned.questions[0].job, work.path(planned))] = planned

        running: dict[Future[str | None], PlannedTape] = {}
        for planned in plan:
            submit(planned)
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = _outcome(running.pop(future), future.result(), work)
                    if outcome.left is not None:
                        submit(outcome.left)
                    yield outcome
        finally:
            pool.shutdown(cancel_futures=True)


def _outcome(planned: PlannedTape, error: str | None, work: WorkFolder) -> Outcome:
    tape = work.tape(planned)
    if error is not None or tape is None:
        return Outcome(planned, error or "its file in the work folder cannot be read")
    try:
        return Outcome(planned, left=planned.without(tape))
    except RecordingError as unusable:
        return Outcome(planned, str(unusable))


def _prepare() -> None:
    """One thread for each process: nothing is computed, and the processes share the cores."""
    import torch

    torch.set_num_threads(1)


def _record(part: Part, job: TrainingJob | GenerationJob, path: Path) -> str | None:
    """Record a tape into a file; what went wrong, so that one tape that fails does not end the others."""
    try:
        tape = dump(recorded_tape(part, job))
        with replacing(path) as unfinished:
            unfinished.write_bytes(tape)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def recorded_tape(part: Part, job: TrainingJob | GenerationJob) -> Tape:
    """Record the tape that answers a job; errors as for `record_model_tape`."""
    from vramcast.record.tape_recording import record_model_tape, record_optimizer_tape

    config, gpu = load_model(job.model, offline=True), find_gpu(job.gpu)
    if isinstance(job, GenerationJob):
        from vramcast.record.generation_tape import record_generation_tape

        return record_generation_tape(job, config, gpu)
    record = record_model_tape if part == "model" else record_optimizer_tape
    return record(job, config, gpu)
