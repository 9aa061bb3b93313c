"""The training loop: draw, step, tell, and every so often validate and save."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from vramcast.gpt.errors import TrainingError
from vramcast.gpt.interruption import Interruption, stoppable
from vramcast.gpt.log import StepLog
from vramcast.gpt.measured import memory_now
from vramcast.gpt.report import StepReading, TrainingReport, ValidationReading
from vramcast.gpt.run_folder import RunFolder
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.step import learning_rate_at, seed_of_step, training_step
from vramcast.gpt.tokens import TokenFiles, drawn_batches
from vramcast.gpt.trainee import Trainee
from vramcast.gpt.validation import validate


@dataclass
class Loop:
    """The loop and where it stands."""

    settings: TrainSettings
    trainee: Trainee
    files: TokenFiles
    run: RunFolder
    report: TrainingReport
    first: int
    """Step it goes on from."""

    def __post_init__(self) -> None:
        self.step = self.first
        self.seconds = 0.0
        """In steps, without validation and checkpoints."""
        self.validation: ValidationReading | None = None
        self.signal_number: int | None = None
        self.log = StepLog(self.run, self.first)
        for note in self.log.notes:
            self.report.note(note)

    @property
    def tokens_per_second(self) -> float | None:
        """Of all processes; None before the first step."""
        job, processes = self.trainee.job, self.trainee.accelerator.num_processes
        assert job.sequence_length is not None
        tokens = job.batch_size * job.sequence_length * job.gradient_accumulation_steps * processes
        return (self.step - self.first) * tokens / self.seconds if self.seconds else None

    def go(self) -> None:
        """Train until `max_iters` or a signal; the last step is always saved.

        Raises:
            TrainingError: the loss or a weight is not finite; nothing of it was saved.
            InputError: a checkpoint cannot be written.
        """
        last, interval = self.settings.max_iters, self.settings.eval_interval
        with stoppable() as asked:
            while self.step < last:
                stop = self._one_step(asked)
                if self.step % interval == 0 or self.step == last:
                    self._validate()
                if stop or self.step % interval == 0 or self.step == last:
                    self._save()
                if stop:
                    break
        self.signal_number = asked.signal_number

    def _one_step(self, asked: Interruption) -> bool:
        """Train one step; True where a process was asked to stop."""
        began = time.perf_counter()
        torch.manual_seed(seed_of_step(self.settings, self.step, self.trainee.accelerator.process_index))
        for group in self.trainee.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.settings, self.step)
        trainee = self.trainee
        loss = training_step(trainee.accelerator, trainee.model, trainee.stepping, self._draw(), self.settings)
        mean_loss, stop = self._agree(loss, asked)
        self.step += 1
        self.seconds += time.perf_counter() - began
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss is {mean_loss} at step {self.step}; the last checkpoint in {self.run.place} is whole. "
                "Lower --learning-rate, or take --precision amp-bf16 or fp32"
            )
        self.log.add(self.step, mean_loss)
        memory = memory_now(trainee.accelerator.device)
        speed = self.tokens_per_second or 0.0
        self.report.step(StepReading(self.step, self.settings.max_iters, mean_loss, speed, memory))
        return stop

    def _draw(self) -> torch.Tensor:
        """The step's batches for this process: (A, B, T)."""
        job, accelerator = self.trainee.job, self.trainee.accelerator
        assert job.sequence_length is not None
        drawn = drawn_batches(
            self.files.train.tokens,
            seed=self.settings.seed,
            step=self.step,
            processes=accelerator.num_processes,
            process=accelerator.process_index,
            micro_batches=job.gradient_accumulation_steps,
            batch_size=job.batch_size,
            length=job.sequence_length,
        )
        return torch.from_numpy(drawn)

    def _agree(self, loss: torch.Tensor, asked: Interruption) -> tuple[float, bool]:
        """The mean loss of all processes, and whether any of them was asked to stop."""
        is_asked = torch.tensor(float(asked.signal_number is not None), device=loss.device)
        told = self.trainee.accelerator.reduce(torch.stack([loss.float(), is_asked]), "mean").tolist()
        return told[0], told[1] > 0

    def _validate(self) -> None:
        job = self.trainee.job
        assert job.sequence_length is not None
        found = validate(
            self.trainee.model,
            self.trainee.accelerator,
            self.files.validation,
            length=job.sequence_length,
            batch_size=job.batch_size,
            most_batches=self.settings.eval_iters,
        )
        self.validation = ValidationReading(step=self.step, **found._asdict())

    def _save(self) -> None:
        if self.trainee.accelerator.is_main_process:
            self.log.write()
        self.trainee.save(self.run, self.step)
        if self.validation is not None and self.validation.step == self.step:
            self.report.validation(self.validation)
