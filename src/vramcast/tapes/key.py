"""What a tape is looked up by: the structure of the model and the settings that change events."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import ModelConfig
from vramcast.tapes.structure import dropout_pattern, structure_of

Key = dict[str, Any]
"""JSON values; equal keys mean the same tapes."""

HALF = ("fp16", "bf16")


def model_key(job: TrainingJob, config: ModelConfig) -> Key:
    """Forward and backward of a training job; sizes, the GPU and the allocator's settings are not in it.

    Raises:
        UnrepeatedLayers: the model has no structure that can be recorded once.
    """
    return {
        "part": "model",
        "structure": structure_of(config),
        "precision": job.precision,
        "attention": job.attention,
        "checkpointing": job.checkpointing,
        "dropout": dropout_pattern(config, job.dropout),
        "accumulation": job.gradient_accumulation_steps > 1,
    }


def optimizer_key(job: TrainingJob, config: ModelConfig) -> Key:
    """The optimizer's step of a training job, gradient scaling and clipping included; errors as for `model_key`."""
    return {
        "part": "optimizer",
        "structure": structure_of(config),
        "weights": job.precision if job.precision in HALF else "fp32",
        "scaling": job.precision == "amp-fp16",
        "optimizer": job.optimizer,
        "clipping": job.max_grad_norm is not None,
    }


def generation_key(job: GenerationJob, config: ModelConfig) -> Key:
    """A generation job; errors as for `model_key`."""
    cache = None if job.kv_cache_dtype == job.precision else job.kv_cache_dtype
    mixed = {job.precision, cache} == set(HALF)  # bfloat16 cannot stand for float16 where both occur
    return {
        "part": "generation",
        "structure": structure_of(config),
        "precision": f"{job.precision}, cache {cache}" if mixed else job.precision,
        "attention": job.attention,
        "cache": job.cache,
        "kv_cache": cache,
    }


def canonical(key: Key) -> tuple[Key, bool]:
    """The key to look for, and whether what is found must be renamed from bfloat16 to float16.

    Optimizers alone take the same memory in both: PyTorch's softmax has a fused path from float16 to fp32 that bfloat16 lacks, so
    models written with one allocate differently (`softmax` in aten/src/ATen/native/SoftMax.cpp).
    """
    if key.get("weights") == "fp16":
        return {**key, "weights": "bf16"}, True
    return key, False


def structure_digest(key: Key) -> str:
    """A short name for the structure in a key: the same on every machine."""
    return _digest(key["structure"])


def settings_digest(key: Key) -> str:
    """A short name for the rest of a key."""
    return _digest({name: value for name, value in key.items() if name != "structure"})


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
