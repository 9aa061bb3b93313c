"""Finds the tape that answers a generation job: shipped, recorded before on this machine, or recorded now."""

from __future__ import annotations

from collections.abc import Callable

from vramcast.errors import InputError
from vramcast.forecast import engine
from vramcast.forecast.training_tapes import (
    FUSED,
    LARGEST_TENSOR_BYTES,
    NoTape,
    found_or_recorded,
    key_of,
)
from vramcast.hardware import GPU
from vramcast.job import GenerationJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.tapes import Tape, why_not
from vramcast.tapes.dimensions import gpu_values, model_values
from vramcast.tapes.generation import BoundGeneration
from vramcast.tapes.key import Key, generation_key
from vramcast.tapes.library import find_tapes


def generation_values(job: GenerationJob, config: ModelConfig, gpu: GPU, torch_version: str) -> dict[str, int]:
    """Letter -> number of a job."""
    return {
        **model_values(config),
        "B": job.batch_size,
        "T": job.prompt_length,
        "N": job.max_new_tokens,
        "A": job.prompt_length + job.max_new_tokens - 1,
        **gpu_values(gpu, torch_version),
    }


def bound_generation(
    job: GenerationJob, config: ModelConfig, gpu: GPU, progress: Progress | None = None
) -> BoundGeneration:
    """The tape of a job with its numbers put in.

    Raises:
        NoTape: the job cannot be made into a tape.
        InputError: a tensor would be larger than torch can count.
        MissingExtraError: its tape is not there and torch, which would record it, is not installed.
    """
    keys, usable = _looked_for(job, config, gpu)
    tape = found_or_recorded(keys, usable, lambda: engine.record_generation_tape(job, config, gpu, progress))
    values = generation_values(job, config, gpu, tape.versions["torch"])
    bound = BoundGeneration(tape, values)
    if bound.largest_bytes >= LARGEST_TENSOR_BYTES:
        raise InputError(
            "batch_size x prompt_length x max_new_tokens",
            f"{job.batch_size} x {job.prompt_length} x {job.max_new_tokens}",
            "a tensor of this job would be larger than torch can count (2**63 bytes)",
        )
    return bound


def generation_tape_is_at_hand(job: GenerationJob, config: ModelConfig, gpu: GPU) -> bool:
    """Whether a job is answered by a tape without recording one first."""
    try:
        keys, usable = _looked_for(job, config, gpu)
    except NoTape:
        return False
    return any(usable(tape) is None for key in keys for tape in find_tapes(key))


def _looked_for(job: GenerationJob, config: ModelConfig, gpu: GPU) -> tuple[list[Key], Callable[[Tape], str | None]]:
    """The keys of a job's tapes, and why one that is found is not usable; errors as for `key_of`."""
    key = key_of(generation_key, job, config)
    keys = [key, {**key, "attention": "sdpa"}] if job.attention in FUSED else [key]

    def usable(tape: Tape) -> str | None:
        if job.attention in FUSED and any(guard.choice.backend != job.attention for guard in tape.attention):
            return f"it takes another backend than {job.attention}"
        return why_not_generation(tape, generation_values(job, config, gpu, tape.versions["torch"]), gpu)

    return keys, usable


def why_not_generation(tape: Tape, values: dict[str, int], gpu: GPU) -> str | None:
    """The conditions must hold in the first decode step and in the last."""
    for cached in (values["T"] + 1, values["A"]):
        reason = why_not(tape, {**values, "S": cached}, gpu.kernel_capability)
        if reason is not None:
            return reason
    return None
