"""The loss of every step as lines of JSON next to the model."""

from __future__ import annotations

import json
from pathlib import Path

from vramcast.errors import InputError, shown
from vramcast.gpt.run_folder import LOG, RunFolder
from vramcast.gpt.writing import writing
from vramcast.whole_file import replacing


class StepLog:
    """Losses of this run after those of the runs it goes on from.

    What is there is read before the first step, so that no file ends a run after its steps were trained. A line that is cut or
    damaged is left out, and `notes` say so.
    """

    def __init__(self, run: RunFolder, first_step: int) -> None:
        """Read what earlier runs wrote.

        Raises:
            InputError: the file is there and cannot be read.
        """
        self._run = run
        self._before = first_step
        self.losses: list[float] = []
        """Of this run's steps."""
        lines = _lines(run.here / LOG)
        steps = [_step_of(line) for line in lines]
        self._earlier = [line for line, step in zip(lines, steps, strict=True) if step and step <= first_step]
        damaged = [at for at, step in enumerate(steps) if not step]
        self.notes: list[str] = []
        """What a user should know of the file, once."""
        if damaged:
            count = "a line is" if len(damaged) == 1 else f"{len(damaged)} lines are"
            first = f"line {damaged[0] + 1}: {shown(lines[damaged[0]])}"
            self.notes.append(f"{LOG}: {count} cut or damaged and left out ({first})")

    def add(self, step: int, loss: float) -> None:
        """A step was done."""
        assert step == self._before + len(self.losses) + 1
        self.losses.append(loss)

    def write(self) -> None:
        """Bring the file up to date, before the checkpoint of the same step: a kill between the two leaves steps too many, which the
        run that goes on replaces, and never too few.

        Raises:
            InputError: the disk refuses; the file is as it was.
        """
        file = self._run.here / LOG
        own = [json.dumps({"step": self._before + at, "loss": loss}) for at, loss in enumerate(self.losses, 1)]
        with writing(self._run.place.parent, f"{file} is as it was"), replacing(file) as unfinished:
            unfinished.write_text("".join(f"{line}\n" for line in [*self._earlier, *own]), encoding="utf-8")


def _lines(file: Path) -> list[str]:
    """None where there is no file; bytes that are no text come out as a sign that no line of JSON has."""
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError("--models-dir", str(file), f"cannot be read: {error.strerror}; move it away") from error
    # Of JSON's own lines: other ends of lines may stand inside a text.
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _step_of(line: str) -> int | None:
    """The step of a whole line; None of one that is cut or damaged."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("loss"), int | float):
        return None
    step = entry.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) and step > 0 else None
