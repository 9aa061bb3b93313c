"""The switches of a training job that save memory: data, and the one that depends on the batch size."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vramcast.hardware import GPU
from vramcast.job import TrainingJob

Effect = Literal["same_mathematics", "changes_numerics", "changes_training"]
FIRST_WITH_BF16 = (8, 0)
"""Compute capability of the first NVIDIA cards with bf16 arithmetic (CUDA C++ Programming Guide, arithmetic instructions)."""


class Switch(BaseModel):
    """One change of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    sets: dict[str, Any]
    """Field of the job -> its new value."""
    effect: Effect
    cost: str
    """What is known of the price besides FLOPs."""
    replaces: dict[str, list[Any]] = {}
    """Field -> values for which the switch is offered."""
    bf16: bool | None = None
    """Only for cards with (True) or without (False) bf16 arithmetic."""

    @property
    def flags(self) -> str:
        """As written on the command line: `--checkpointing full`."""
        return " ".join(_flag(name, value) for name, value in self.sets.items())

    def applied(self, job: TrainingJob) -> TrainingJob:
        """The job with the switch thrown."""
        return job.model_copy(update=self.sets)

    def is_offered(self, job: TrainingJob, gpu: GPU) -> bool:
        """Would it change this job, on a card that can do it?"""
        if self.bf16 is not None and self.bf16 != has_bf16(gpu):
            return False
        if any(getattr(job, field) not in values for field, values in self.replaces.items()):
            return False
        return any(getattr(job, field) != value for field, value in self.sets.items())


def offered_switches(job: TrainingJob, gpu: GPU) -> list[Switch]:
    """What can be changed about `job` on `gpu`."""
    found = [switch for switch in _switches() if switch.is_offered(job, gpu)]
    return found + ([_smaller_batch(job)] if job.batch_size > 1 else [])


def has_bf16(gpu: GPU) -> bool:
    """Does the card compute in bf16 (others emulate it)?"""
    return gpu.compute_capability is None or gpu.compute_capability >= FIRST_WITH_BF16


def _smaller_batch(job: TrainingJob) -> Switch:
    """The micro batch divided by its smallest prime factor, with as many more of them in a step."""
    factor = next(number for number in range(2, job.batch_size + 1) if job.batch_size % number == 0)
    batch_size, steps = job.batch_size // factor, job.gradient_accumulation_steps * factor
    return Switch(
        name=f"batch {batch_size}, accumulated {steps} times",
        sets={"batch_size": batch_size, "gradient_accumulation_steps": steps},
        effect="same_mathematics",
        cost=f"{steps} smaller forward and backward passes per step; the global batch stays {batch_size * steps}",
    )


def _flag(name: str, value: Any) -> str:
    flag = "--" + name.replace("_", "-")
    return flag if value is True else f"{flag} {value}"


@cache
def _switches() -> tuple[Switch, ...]:
    text = resources.files("vramcast.plan").joinpath("data", "switches.toml").read_text(encoding="utf-8")
    return tuple(Switch(**row) for row in tomllib.loads(text)["switch"])
