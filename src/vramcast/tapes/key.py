"""What a tape is looked up by: the structure of the model and the settings that change events."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vramcast.job import TrainingJob
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


def canonical(key: Key) -> tuple[Key, bool]:
    """The key to look for, and whether what is found must be renamed from bfloat16 to float16."""
    if "fp16" in (key.get("precision"), key.get("weights")):
        return {name: "bf16" if value == "fp16" else value for name, value in key.items()}, True
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
