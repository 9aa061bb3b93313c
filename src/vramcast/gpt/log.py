"""The loss of every step as lines of JSON next to the model."""

from __future__ import annotations

import json

from vramcast.gpt.run_folder import LOG, RunFolder
from vramcast.gpt.writing import writing
from vramcast.whole_file import replacing


class StepLog:
    """Losses of this run after those of the runs it goes on from."""

    def __init__(self, run: RunFolder, first_step: int) -> None:
        self._run = run
        self._before = first_step
        self.losses: list[float] = []
        """Of this run's steps."""

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
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        earlier = [line for line in lines if json.loads(line)["step"] <= self._before]
        own = [json.dumps({"step": self._before + at, "loss": loss}) for at, loss in enumerate(self.losses, 1)]
        with writing(self._run.place.parent, f"{file} is as it was"), replacing(file) as unfinished:
            unfinished.write_text("".join(f"{line}\n" for line in [*earlier, *own]), encoding="utf-8")
