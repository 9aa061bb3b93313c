"""Finds the tape that answers a generation job: shipped, recorded before on this machine, or recorded now."""

from __future__ import annotations

from vramcast.errors import InputError
from vramcast.forecast import engine
from vramcast.forecast.training_tapes import (
    ASSUMED_CAPABILITY,
    FUSED,
    LARGEST_TENSOR_BYTES,
    found_or_recorded,
    key_of,
)
from vramcast.hardware import GPU, cublas_workspace_bytes
from vramcast.job import GenerationJob
from vramcast.models import ModelConfig
from vramcast.progress import Progress
from vramcast.tapes import Tape, why_not
from vramcast.tapes.dimensions import model_values
from vramcast.tapes.generation import BoundGeneration
from vramcast.tapes.key import generation_key


def generation_values(job: GenerationJob, config: ModelConfig, gpu: GPU, torch_version: str) -> dict[str, int]:
    """Letter -> number of a job."""
    workspace = cublas_workspace_bytes(gpu.compute_capability or ASSUMED_CAPABILITY, torch_version)
    return {
        **model_values(config),
        "B": job.batch_size,
        "T": job.prompt_length,
        "N": job.max_new_tokens,
        "A": job.prompt_length + job.max_new_tokens - 1,
        "U": workspace.workspace_bytes,
        "m": gpu.kernel_multiprocessors,
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
    key = key_of(generation_key, job, config)
    keys = [key, {**key, "attention": "sdpa"}] if job.attention in FUSED else [key]

    def usable(tape: Tape) -> str | None:
        if job.attention in FUSED and any(guard.choice.backend != job.attention for guard in tape.attention):
            return f"it takes another backend than {job.attention}"
        return why_not_generation(tape, generation_values(job, config, gpu, tape.versions["torch"]), gpu)

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


def why_not_generation(tape: Tape, values: dict[str, int], gpu: GPU) -> str | None:
    """The conditions must hold in the first decode step and in the last."""
    for cached in (values["T"] + 1, values["A"]):
        reason = why_not(tape, {**values, "S": cached}, gpu.compute_capability or ASSUMED_CAPABILITY)
        if reason is not None:
            return reason
    return None
