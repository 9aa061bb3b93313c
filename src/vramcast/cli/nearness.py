"""Which flag or command a word that is none was meant to be, and which words name a method that no flag does yet."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher

NEAR = 0.75
"""Least share of letters in common, in order, of two words that are taken for each other: one letter wrong in four, as a slip is."""

METHODS = frozenset(
    """
    lora qlora dora rslora loftq ia3 peft adapter adapters galore unsloth liger
    quant quantize quantized quantization gptq awq bnb bitsandbytes nf4 fp4 fp8 int4 int8 4bit 8bit
    zero zero1 zero2 zero3 deepspeed fsdp fsdp1 fsdp2 hsdp ddp dp tp pp cp ep megatron parallel parallelism sharding
    gpus num-gpus num-gpu gpu-count n-gpus n-gpu ngpus devices nodes nnodes nproc world-size rank ranks
    offload offloading cpu-offload compile torch-compile inductor cuda-graphs
    engine vllm sglang tgi ollama llama-cpp tensorrt speculative draft-model
    dpo ppo grpo rlhf reward distill distillation teacher
    """.split()
)
"""Names of methods, and of several GPUs: as a whole flag, or as a word of one."""


def nearest(word: str, candidates: Mapping[str, str]) -> str | None:
    """The candidate that a word is a slip, a part or an abbreviation of; None where it is near none.

    Args:
        word: lower case, words joined by hyphens.
        candidates: the same of each candidate -> how it is shown.
    """
    scores = {plain: _likeness(word, plain) for plain in candidates}
    best = max(scores, key=lambda plain: scores[plain], default=None)
    return None if best is None or scores[best] < NEAR else candidates[best]


def _likeness(word: str, candidate: str) -> float:
    common = SequenceMatcher(None, word, candidate).ratio()
    parts, other = word.split("-"), candidate.split("-")
    if _abbreviates(parts, other) or _holds(parts, other) or _holds(other, parts):
        return NEAR + (1 - NEAR) * common
    return common


def _abbreviates(parts: list[str], whole: list[str]) -> bool:
    """`seq-len` of `sequence-length`."""
    if len(parts) != len(whole) or len("".join(parts)) <= len(parts):
        return False
    return all(part and full.startswith(part) for part, full in zip(parts, whole, strict=True))


def _holds(parts: list[str], inner: list[str]) -> bool:
    """`per-device-batch-size` holds `batch-size`, and `kv-cache-dtype` holds `kv-cache`."""
    count = len(inner)
    return any(parts[at : at + count] == inner for at in range(len(parts) - count + 1))
