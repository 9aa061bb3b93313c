"""Records a generation job: `model.generate`, run for real on the virtual GPU for a few steps and extended exactly to all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vramcast.record.building import DTYPES, model_builder
from vramcast.record.decode_extension import DecodeExtension, StepTemplate
from vramcast.record.decode_run import GenerationRun, run_generation
from vramcast.record.decode_settling import RecordedSteps, settle_segments
from vramcast.record.recording import Recording
from vramcast.virtual_gpu.versions import library_versions

if TYPE_CHECKING:
    from vramcast.hardware import GPU
    from vramcast.job import GenerationJob
    from vramcast.models import ModelConfig

WARM_UP_STEPS = 2
"""The first step meets what the prefill left behind, the second is the first that a step precedes; from the third on steps repeat."""
WINDOW = 3
DIRECT_STEPS = WARM_UP_STEPS + 3 * WINDOW
"""Generations of up to so many decode steps are recorded step by step."""


def record_generation(job: GenerationJob, config: ModelConfig, gpu: GPU, *, every_step: bool = False) -> Recording:
    """Run the prefill and a few decode steps of the job on a virtual GPU and extend them to all steps.

    `max_new_tokens` tokens take the prefill and `max_new_tokens - 1` decode steps; the cache then holds `prompt_length +
    max_new_tokens - 1` tokens, for the last token is chosen but never read. Tensors that the cache object holds at the end of a
    forward pass count as `kv_cache` from their birth: while a step grows a dynamic cache by concatenation, the old and the new tensor
    of the layer at hand both do.

    Steps far into the generation are recorded with a longer prompt and as many tokens fewer: from its third step on such a run is
    the same as the whole one at that place. The templates of `Recording.decode` reproduce the last steps of the generation exactly.

    Args:
        job: what is generated.
        config: architecture of the model.
        gpu: row of the hardware file.
        every_step: record every decode step instead (slow; to check the extension).

    Raises:
        RecordingError: the decode steps follow no rule known here; the message names the event.
        ModelConfigError: transformers refuses the configuration.
    """
    build = model_builder(config, attention=job.attention, dtype=DTYPES[job.precision])
    decode_steps = job.max_new_tokens - 1
    if every_step or decode_steps <= DIRECT_STEPS:
        recording = _recording(run_generation(job, build, gpu))
    else:
        recording = _extended_recording(job, build, gpu, decode_steps)
    tokens = job.prompt_length + job.max_new_tokens
    if tokens > config.dimensions.context_length:
        recording.assumptions.append(
            f"{tokens} tokens are more than the model's context length of {config.dimensions.context_length}: "
            "position tables and rotary scaling are taken to follow"
        )
    return recording


def _recording(run: GenerationRun) -> Recording:
    flops = [0, *run.flops]
    return Recording(
        timeline=run.timeline,
        parameters=run.parameters,
        flops_per_step=flops[-1] - flops[-2],
        kernels=run.kernels,
        assumptions=run.assumptions,
        versions=library_versions(),
    )


def _extended_recording(job: GenerationJob, build: Callable[[], Any], gpu: GPU, decode_steps: int) -> Recording:
    beginning = run_generation(job, build, gpu, stop_after=WARM_UP_STEPS + WINDOW)
    ending = run_generation(_later(job, decode_steps - WARM_UP_STEPS - WINDOW), build, gpu)
    first, last = beginning.cut(), ending.cut()
    *last_steps, tail = last.steps[WARM_UP_STEPS:]

    def probe(first_step: int, last_step: int) -> tuple[StepTemplate, ...]:
        later = _later(job, first_step - WARM_UP_STEPS - 1)
        run = run_generation(later, build, gpu, stop_after=WARM_UP_STEPS + last_step - first_step + 1)
        return run.cut().steps[WARM_UP_STEPS:]

    segments = settle_segments(
        RecordedSteps(WARM_UP_STEPS + 1, first.steps[WARM_UP_STEPS:]),
        RecordedSteps(decode_steps - WINDOW + 1, tuple(last_steps)),
        probe,
        turning_points=[window - job.prompt_length for window in beginning.sliding_windows],
    )
    recording = _recording(ending)
    recording.timeline = beginning.head(WARM_UP_STEPS)
    recording.kernels = beginning.kernels
    recording.assumptions = list(dict.fromkeys(beginning.assumptions + ending.assumptions))
    recording.decode = DecodeExtension(first.states[WARM_UP_STEPS], segments, tail)
    return recording


def _later(job: GenerationJob, steps: int) -> GenerationJob:
    """The job as it stands `steps` decode steps later: those tokens are part of the prompt."""
    lengths = {"prompt_length": job.prompt_length + steps, "max_new_tokens": job.max_new_tokens - steps}
    return job.model_copy(update=lengths)
