"""Finds the tape that answers a training job: shipped, recorded before on this machine, or recorded now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vramcast.errors import InputError, MissingExtraError, RecordingError
from vramcast.forecast import engine
from vramcast.hardware import GPU
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.tapes import BoundTape, Tape, UnrepeatedLayers, composed, find_tapes, keep_tape, why_not
from vramcast.tapes.composing import as_other_half
from vramcast.tapes.dimensions import gpu_values, model_values
from vramcast.tapes.key import Key, canonical, model_key, optimizer_key

LARGEST_TENSOR_BYTES = 1 << 63
NEWEST_TORCH = "99.0"
"""Any release whose workspaces are those of the newest one known."""
FUSED = ("flash", "efficient", "math")
"""Attention backends that can be asked for by name."""


class NoTape(Exception):
    """This job has no tape, and the message says why; its code can still be run at full size."""


def training_values(job: TrainingJob, config: ModelConfig, gpu: GPU, torch_version: str) -> dict[str, int]:
    """Letter -> number of a job; `job.sequence_length` must be set."""
    assert job.sequence_length is not None
    return {
        **model_values(config),
        "B": job.batch_size,
        "T": job.sequence_length,
        **gpu_values(gpu, torch_version),
    }


def bound_training(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None) -> BoundTape:
    """The tape of a job with its numbers put in.

    Raises:
        NoTape: the job cannot be made into a tape.
        InputError: a tensor would be larger than torch can count.
        MissingExtraError: its tape is not there and torch, which would record it, is not installed.
    """
    model = _model_tape(job, config, gpu, progress)
    values = training_values(job, config, gpu, model.versions["torch"])
    bound = BoundTape(
        composed(model, _optimizer_tape(job, config, gpu, progress)), values, job.gradient_accumulation_steps
    )
    if max(bound.size_bytes) >= LARGEST_TENSOR_BYTES:
        raise InputError(
            "batch_size x sequence_length",
            f"{job.batch_size} x {job.sequence_length}",
            "a tensor of this job would be larger than torch can count (2**63 bytes)",
        )
    return bound


def _model_tape(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None) -> Tape:
    keys = list(_model_keys(job, config))

    def usable(tape: Tape) -> str | None:
        values = training_values(job, config, gpu, tape.versions["torch"])
        asked = job.attention if job.attention in FUSED else None
        if asked and any(guard.choice.backend != asked for guard in tape.attention):
            return f"it takes another backend than {asked}"
        return why_not(tape, values, gpu.kernel_capability)

    values = training_values(job, config, gpu, NEWEST_TORCH)
    return found_or_recorded(keys, usable, lambda: engine.record_model_tape(job, config, gpu, progress), values)


def _model_keys(job: TrainingJob, config: ModelConfig) -> Iterator[Key]:
    """The key of the job; where a backend is asked for that PyTorch would take anyhow, the tape of its own choice will do."""
    key = key_of(model_key, job, config)
    yield key
    if job.attention in FUSED:
        yield {**key, "attention": "sdpa"}


def _optimizer_tape(job: TrainingJob, config: ModelConfig, gpu: GPU, progress: Progress | None) -> Tape:
    def usable(tape: Tape) -> str | None:
        values = training_values(job, config, gpu, tape.versions["torch"])
        return why_not(tape, values, gpu.kernel_capability)

    key = key_of(optimizer_key, job, config)
    values = training_values(job, config, gpu, NEWEST_TORCH)
    return found_or_recorded([key], usable, lambda: engine.record_optimizer_tape(job, config, gpu, progress), values)


def key_of(make: Callable[[Any, ModelConfig], Key], job: Any, config: ModelConfig) -> Key:
    """The key of a job.

    Raises:
        NoTape: its model has no structure that can be recorded once.
    """
    try:
        return make(job, config)
    except UnrepeatedLayers as error:
        raise NoTape(str(error)) from error


def found_or_recorded(
    keys: list[Key],
    usable: Callable[[Tape], str | None],
    record: Callable[[], Tape],
    values: dict[str, int] | None = None,
) -> Tape:
    """The first usable tape of these keys; recorded and kept where there is none.

    With `values`, shipped tapes whose conditions do not hold at them are not even read.

    Raises:
        NoTape: it cannot be recorded, or what was recorded is not usable; the message says why.
    """
    for key in keys:
        for tape in find_tapes(key, values):
            if usable(tape) is None:
                return tape
    try:
        tape = record()
    except (RecordingError, UnrepeatedLayers) as error:
        raise NoTape(str(error)) from error
    reason = usable(as_other_half(tape) if canonical(keys[0])[1] else tape)
    if reason is not None:
        raise NoTape(f"a tape was recorded, but {reason}")
    keep_tape(tape)
    return next(tape for key in keys for tape in find_tapes(key) if usable(tape) is None)


__all__ = ["MissingExtraError", "NoTape", "bound_training", "training_values"]
