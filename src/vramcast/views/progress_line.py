"""Progress of long work as one line on stderr that goes away; nothing where stderr is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vramcast.progress import Progress as ProgressCallback


@contextmanager
def progress_line(console: Console | None = None) -> Iterator[ProgressCallback]:
    """A callback that moves the line; it takes what is being done, the steps done and the steps in all."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = console or Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as line:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = line.add_task(what, total=total)
            line.update(line.task_ids[tasks[what]], completed=done, total=total)

        yield report
