"""`vramcast tapes`: which tapes there are, what is on one, and recording another."""

from typing import Annotated

from cyclopts import App, Parameter

from vramcast.cli.parameters import EXIT_DONE, ModelArgument, OfflineFlag
from vramcast.cli.showing import progress_on_terminal
from vramcast.errors import InputError
from vramcast.forecast import engine
from vramcast.forecast.answer import checked_training
from vramcast.forecast.training_tapes import NoTape, bound_training
from vramcast.job import TrainingJob, TrainingOptions
from vramcast.models import load_model
from vramcast.tapes import BoundTape, UnrepeatedLayers, keep_tape
from vramcast.tapes.inventory import tape_files
from vramcast.tapes.library import cache_folder
from vramcast.tapes.show import ShownSection, shown_sections
from vramcast.tapes.structure import structure_of

tapes = App(name="tapes", help="Recorded tapes: list them, read one, record another.", result_action="return_value")


@tapes.command(name="list")
def list_tapes(
    model: Annotated[str | None, Parameter(help="Only those that this model can use.")] = None,
    /,
    *,
    offline: OfflineFlag = False,
) -> int:
    """Every tape that ships or was recorded on this machine: settings, conditions, releases, where it was certified."""
    from rich.console import Console

    from vramcast.views.tapes_terminal import print_tape_files

    structure = None if model is None else structure_of(load_model(model, offline=offline))
    files = list(tape_files(structure))
    print_tape_files(files, Console())
    if not files:
        print(f"no tapes; those recorded on this machine are kept in {cache_folder()}")
    return EXIT_DONE


@tapes.command
def show(
    model: ModelArgument,
    /,
    *,
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    section: Annotated[
        str | None, Parameter(help="Only sections with this in their name: load, forward, 'later backward', ...")
    ] = None,
    operators: Annotated[bool, Parameter(negative="", help="What is computed in each section too.")] = False,
    limit: Annotated[int | None, Parameter(help="At most so many lines of each section.")] = None,
    offline: OfflineFlag = False,
) -> int:
    """The tape of a training job to read: every allocation with its formula, and where it is freed."""
    from rich.console import Console

    from vramcast.views.tapes_terminal import print_tape

    if limit is not None and limit < 1:
        raise InputError("--limit", limit, "write a whole number from 1 on")
    bound = _bound(model, options, offline)
    found = _sections(bound, section)
    print_tape(bound.tape, bound.values, found, Console(), operators=operators, limit=limit)
    return EXIT_DONE


@tapes.command
def record(
    model: ModelArgument,
    /,
    *,
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    offline: OfflineFlag = False,
) -> int:
    """Record the two tapes of a training job, the model's and the optimizer's, keep them, and print their paths."""
    job, config, gpu = checked_training(TrainingJob(model=model, **options.model_dump()), offline)
    with progress_on_terminal() as progress:
        try:
            recorded = [
                make(job, config, gpu, progress) for make in (engine.record_model_tape, engine.record_optimizer_tape)
            ]
        except UnrepeatedLayers as error:
            raise InputError("MODEL", model, f"has no tape: {error}") from error
    for tape in recorded:
        path = keep_tape(tape)
        if path is None:
            raise InputError("VRAMCAST_CACHE", str(cache_folder()), "cannot be written; name another folder")
        print(path)
    return EXIT_DONE


@tapes.command
def path() -> int:
    """The folder in which tapes recorded on this machine are kept."""
    print(cache_folder())
    return EXIT_DONE


def _bound(model: str, options: TrainingOptions, offline: bool) -> BoundTape:
    job, config, gpu = checked_training(TrainingJob(model=model, **options.model_dump()), offline)
    with progress_on_terminal() as progress:
        try:
            return bound_training(job, config, gpu, progress)
        except NoTape as error:
            raise InputError("MODEL", model, f"this job has no tape, it is traced at full size: {error}") from error


def _sections(bound: BoundTape, name: str | None) -> list[ShownSection]:
    """Those with `name` in their name.

    Raises:
        InputError: there are none.
    """
    every = shown_sections(bound.tape, bound.values["L"], bound.micro_batches)
    found = [section for section in every if name is None or name in section.name]
    if not found:
        raise InputError("--section", name, f"choose from {', '.join(section.name for section in every)}")
    return found
