"""Records a generation job: `model.generate`, run for real on the virtual GPU for a few steps, extended exactly to
all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vramcast.record.building import DTYPES, ModelBuilder
from vramcast.record.decode_run import run_generation
from vramcast.record.decode_unrolling import GenerationRun, UnrolledGeneration, unroll_generation
from vramcast.timeline.recording import Recording
from vramcast.virtual_cuda.versions import library_versions

if TYPE_CHECKING:
    from vramcast.hardware import GPU
    from vramcast.job import GenerationJob
    from vramcast.models import ModelConfig


def record_generation(job: GenerationJob, config: ModelConfig, gpu: GPU, *, every_step: bool = False) -> Recording:
    """Run the prefill and a few decode steps of the job on a virtual GPU and extend them to all steps.

    `max_new_tokens` tokens take the prefill and `max_new_tokens - 1` decode steps; the cache then holds `prompt_length
    + max_new_tokens - 1` tokens, for the last token is chosen but never read. Tensors that the cache object holds at
    the end of a forward pass count as `kv_cache` from their birth: while a step grows a dynamic cache by concatenation,
    the old and the new tensor of the layer at hand both do.

    The result's `timeline` ends with the second decode step and `decode` holds the rest (see
    `vramcast.allocator.decode_replay`); for a handful of tokens the timeline is the whole and `decode` is None.

    Args:
        job: what is generated.
        config: architecture of the model.
        gpu: row of the hardware file.
        every_step: record every decode step instead (slow; to check the extension).

    Raises:
        RecordingError: the decode steps follow no rule known here; the message names the event.
        ModelConfigError: transformers refuses the configuration.
    """
    build = ModelBuilder(config, attention=job.attention, dtype=DTYPES[job.precision])

    def run(prompt_length: int, max_new_tokens: int, stop_after: int | None = None) -> GenerationRun:
        lengths = {"prompt_length": prompt_length, "max_new_tokens": max_new_tokens}
        return run_generation(job.model_copy(update=lengths), build, gpu, stop_after=stop_after)

    if every_step:
        whole = run(job.prompt_length, job.max_new_tokens)
        unrolled = UnrolledGeneration(whole.timeline, None, whole, whole)
    else:
        unrolled = unroll_generation(run, job.prompt_length, job.max_new_tokens)
    recording = _recording(unrolled)
    recording.assumptions += [*build.notes, *_beyond_context(job, config)]
    return recording


def _recording(unrolled: UnrolledGeneration) -> Recording:
    beginning, ending = unrolled.beginning, unrolled.ending
    flops = [0, *ending.flops]
    last_step = {name: table for name, table in ending.operators.items() if name == "last_decode_step"}
    return Recording(
        timeline=unrolled.timeline,
        parameters=beginning.parameters,
        flops_per_step=flops[-1] - flops[-2],
        kernels=beginning.kernels,
        assumptions=list(dict.fromkeys(beginning.assumptions + ending.assumptions)),
        versions=library_versions(),
        attention_choices=list(dict.fromkeys(beginning.attention_choices + ending.attention_choices)),
        operators={**beginning.operators, **last_step},
        decode=unrolled.decode,
    )


def _beyond_context(job: GenerationJob, config: ModelConfig) -> list[str]:
    tokens, context_length = job.prompt_length + job.max_new_tokens, config.dimensions.context_length
    if tokens <= context_length:
        return []
    return [f"{tokens} tokens are more than the model's context of {context_length}; it is run as if it took them"]
