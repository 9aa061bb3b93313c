"""A training run on the terminal: the forecast, a line of progress that moves, lines that stay, forecast beside measurement."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from vramcast.forecast import Forecast
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.report import StepReading, TrainingResult, ValidationReading
from vramcast.views.gpt_training_rows import (
    comparison_rows,
    ending_line,
    not_comparable_line,
    one_of_many,
    step_line,
    validation_line,
)
from vramcast.views.terminal import print_forecast

NO_GPU = "no GPU is present: the model trains on the CPU, the forecast is for the card named in it (--gpu)"


class TerminalReport:
    """Listens to a run; in several processes only the main one's hears anything."""

    def __init__(self, out: Console, moving: Progress) -> None:
        self._out, self._moving = out, moving
        self._tasks: dict[str, TaskID] = {}
        self.is_main = False
        """Anything was heard: this is the process that speaks."""

    def note(self, text: str) -> None:
        """A line that stays."""
        self._out.print(text, style="dim", highlight=False, markup=False)

    def forecast(self, forecast: Forecast, gpu_is_present: bool) -> None:
        """The whole forecast, as `vramcast training` prints it."""
        self.is_main = True
        print_forecast(forecast, self._out)
        if not gpu_is_present:
            self.note(NO_GPU)
        self._out.print()

    def refused(self, refusal: DoesNotFitError) -> None:
        """It does not fit and is not started."""
        if self.is_main:
            self._out.print(str(refusal), style="bold red", highlight=False, markup=False)

    def working(self, what: str, done: int, total: int) -> None:
        """A line for each kind of work, until it is done."""
        task = self._task(what, total)
        self._moving.update(task, completed=done, total=total, visible=done < total)

    def step(self, reading: StepReading) -> None:
        """Move the line of the run."""
        task = self._task("training", reading.max_iters, reading.step - 1)
        self._moving.update(task, completed=reading.step, description=f"training  {step_line(reading)}")

    def validation(self, reading: ValidationReading) -> None:
        """A line that stays."""
        self._out.print(validation_line(reading), highlight=False)

    def end(self, result: TrainingResult) -> None:
        """Where it ended; forecast beside measurement."""
        self._moving.stop()
        self._out.print(ending_line(result), style="bold", highlight=False, markup=False)
        if result.measured is None:
            self.note(not_comparable_line(result))
            return
        table = Table(one_of_many(result), "forecast", "measured", "error", box=None)
        for row in comparison_rows(result.forecast, result.measured):
            table.add_row(*row)
        self._out.print(table)

    def _task(self, what: str, total: int, done: int = 0) -> TaskID:
        if what not in self._tasks:
            self._tasks[what] = self._moving.add_task(what, total=total, completed=done)
        return self._tasks[what]


@contextmanager
def terminal_report(quiet: bool = False) -> Iterator[TerminalReport]:
    """A report on the terminal: progress on stderr, all else on stdout, or on stderr too if stdout is for JSON (`quiet`)."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as moving:
        yield TerminalReport(screen if quiet else Console(), moving)
