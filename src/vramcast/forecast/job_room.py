"""The room that a training or generation job finds on a card, with what is uncertain about that job."""

from __future__ import annotations

from vramcast.forecast.room import Room, room_of
from vramcast.forecast.uncertainty import JobKind, Uncertainty
from vramcast.hardware import GPU
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig

_BYTES_OF_ACTIVATIONS = {"fp32": 4, "amp-bf16": 2, "amp-fp16": 2, "bf16": 2, "fp16": 2}
_KEY_AND_VALUE = 2


def room_for(job: TrainingJob | GenerationJob, config: ModelConfig, gpu: GPU, world_size: int = 1) -> Room:
    """The room that one process of a job finds on its card; errors as for `room_of`."""
    kind: JobKind = "one GPU, fp16 autocast" if job.precision == "amp-fp16" else "one GPU"
    if world_size > 1:
        kind = "several GPUs"
    return room_of(gpu, kind, world_size=world_size, margin=job.margin, more=(_older_transformers(job, config),))


def _older_transformers(job: TrainingJob | GenerationJob, config: ModelConfig) -> Uncertainty:
    """What transformers up to 4.57 keeps more under `sdpa` where several query heads share a key head.

    It repeats keys and values for every query head (`repeat_kv` in integrations/sdpa_attention.py) and keeps the copies for backward;
    releases from 5 let the kernel share them. A published Llama-3.2-1B, 1 x 2048: 16 layers x 2 x 2048 x 64 x (32 + 8) x 2 bytes = 0.3355
    GB, the difference between the two releases on the same card.
    """
    sizes = config.dimensions
    more = 0
    if job.attention != "eager" and sizes.num_key_value_heads < sizes.num_attention_heads:
        width = sizes.head_dim * (sizes.num_attention_heads + sizes.num_key_value_heads)
        more = _KEY_AND_VALUE * _tokens(job) * width * _BYTES_OF_ACTIVATIONS[job.precision]
        if isinstance(job, TrainingJob) and job.checkpointing == "none":
            more *= sizes.num_hidden_layers
    return Uncertainty(
        name="release of transformers",
        low_bytes=0,
        high_bytes=more,
        counts_in="reserved",
        reason="up to 4.57 keys and values are repeated for every query head under sdpa, and kept for backward",
    )


def _tokens(job: TrainingJob | GenerationJob) -> int:
    if isinstance(job, TrainingJob):
        return job.batch_size * (job.sequence_length or 0)
    return job.batch_size * (job.prompt_length + job.max_new_tokens)
