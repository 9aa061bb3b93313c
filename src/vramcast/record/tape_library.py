"""Command line: records the tapes that ship with vramcast (`scripts/record-tapes`), or checks that they are up to date.

Finished tapes are kept in a work folder, so that a run that was stopped goes on; another release of torch or other code of the
recorder begins a new one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vramcast.record.tape_library_check import compare_with_plan, differing, drawn
from vramcast.record.tape_library_plan import PlannedTape, planned_tapes
from vramcast.record.tape_library_recording import WorkFolder, keep_shipped, record_tapes
from vramcast.tapes import TapeError
from vramcast.tapes.archive import archive_bytes
from vramcast.tapes.library import library_folder, recorder_digest
from vramcast.whole_file import replacing

WORK_FOLDER = Path("build") / "tapes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: done, or all as shipped; 1: tapes are missing or differ, each of them named."""
    flags = parse_arguments(arguments)
    plan = planned_tapes(only=flags.only)
    console = Console(stderr=True)
    if not plan:
        console.print(f"no preset has the model type {', '.join(flags.only)}")
        return 2
    if flags.list:
        _list(plan, Console())
        return 0
    if flags.check is not None:
        failures = check(plan, flags, console)
    else:
        failures = record(plan, flags, console)
    for failure in failures:
        console.print(escape(failure), style="red", soft_wrap=True)
    return 1 if failures else 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags of `scripts/record-tapes`."""
    parser = argparse.ArgumentParser(prog="scripts/record-tapes", description=__doc__)
    parser.add_argument("--only", metavar="MODEL_TYPE", nargs="+", default=[], help="such as llama; all if not given")
    parser.add_argument("--processes", metavar="N", type=_positive, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print the plan and record nothing")
    parser.add_argument("--check", metavar="N", type=_positive, help="record N shipped tapes anew and compare them")
    parser.add_argument(
        "--outdated",
        action="store_true",
        help="record only what no shipped tape answers any more (a buffer known since, say), and keep the others as they are",
    )
    parser.add_argument("--seed", metavar="S", type=int, help="of the choice of those tapes; at random if not given")
    parser.add_argument("--work", metavar="FOLDER", type=Path, default=WORK_FOLDER, help="finished tapes (%(default)s)")
    parser.add_argument(
        "--library",
        metavar="FOLDER",
        type=Path,
        default=Path(str(library_folder())),
        help="archives; the package's own",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def record(plan: Sequence[PlannedTape], flags: argparse.Namespace, console: Console) -> list[str]:
    """Record the plan and write its archives, each as soon as its tapes are there; what failed, in words."""
    work = WorkFolder(flags.work / recorder_digest())
    flags.library.mkdir(parents=True, exist_ok=True)
    if flags.outdated:
        try:
            console.print(f"{keep_shipped(plan, flags.library, work)} shipped tapes are kept", soft_wrap=True)
        except TapeError as error:
            return [str(error)]
    to_come = Counter(planned.archive for planned in plan)
    finished: dict[str, list[PlannedTape]] = {planned.archive: [] for planned in plan}
    failures = []
    with _progress(console) as progress:
        task = progress.add_task("recording tapes", total=len(plan))
        for outcome in record_tapes(plan, work, flags.processes):
            name = outcome.planned.archive
            if outcome.error is not None:
                failures.append(f"{name}: {outcome.planned}: {outcome.error}")
            else:
                finished[name].append(outcome.planned)
            to_come[name] -= outcome.left is None
            progress.update(task, advance=outcome.left is None, description=f"{name}, {len(failures)} failed")
            if not to_come[name]:
                _write_archive(_in_order(finished[name], plan), work, flags.library, console)
    if not flags.only:
        _remove_leftovers(plan, flags.library, console)
    return failures


def _in_order(finished: Sequence[PlannedTape], plan: Sequence[PlannedTape]) -> list[PlannedTape]:
    """As planned, whichever was done first, so that an archive does not depend on the number of processes."""
    places = {planned.regime: place for place, planned in enumerate(plan)}
    return sorted(finished, key=lambda each: (places[each.regime], each.variant))


def _write_archive(finished: Sequence[PlannedTape], work: WorkFolder, library: Path, console: Console) -> None:
    tapes = [tape for planned in finished if (tape := work.tape(planned)) is not None]
    if tapes:
        path = library / finished[0].archive
        with replacing(path) as unfinished:
            unfinished.write_bytes(archive_bytes(tapes))
        console.print(f"{path.name}: {len(tapes)} tapes, {path.stat().st_size / 1024:.0f} KiB", soft_wrap=True)


def _remove_leftovers(plan: Sequence[PlannedTape], library: Path, console: Console) -> None:
    for path in sorted(library.glob("*.zip")):
        if path.name not in {planned.archive for planned in plan}:
            path.unlink()
            console.print(f"{path.name}: removed, no preset has this structure any more", soft_wrap=True)


def check(plan: Sequence[PlannedTape], flags: argparse.Namespace, console: Console) -> list[str]:
    """Compare the library with the plan and some of its tapes with recordings made now; what differs, in words."""
    seed = random.randrange(10**6) if flags.seed is None else flags.seed
    state = compare_with_plan(plan, flags.library)
    failures, chosen = list(state.failures), drawn(state.shipped, flags.check, seed)
    with _progress(console) as progress, tempfile.TemporaryDirectory() as folder:
        task = progress.add_task("comparing tapes", total=len(chosen))
        for planned, difference in differing(chosen, flags.library, Path(folder), flags.processes):
            progress.advance(task)
            if difference is not None:
                failures.append(f"{planned.archive}: {planned}: {difference}")
    console.print(f"{len(chosen)} of {len(state.shipped)} tapes compared (--seed {seed}), {len(failures)} failures")
    return failures


def _list(plan: Sequence[PlannedTape], console: Console) -> None:
    for planned in plan:
        console.print(f"{planned.archive}  {planned}, {len(planned.questions)} questions", soft_wrap=True, markup=False)
    for archive in dict.fromkeys(planned.archive for planned in plan):
        parts = Counter[str](planned.part for planned in plan if planned.archive == archive)
        console.print(f"{archive}: {_counts(parts)}", soft_wrap=True)
    total = Counter[str](planned.part for planned in plan)
    console.print(
        f"in all {_counts(total)}, {sum(len(planned.questions) for planned in plan)} questions", soft_wrap=True
    )


def _counts(parts: Counter[str]) -> str:
    return " and ".join(f"{count} {part} tapes" for part, count in sorted(parts.items()))


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


if __name__ == "__main__":
    sys.exit(main())
