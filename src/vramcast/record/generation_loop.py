"""Greedy generation as a user would call it: one text for who records it and for who measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vramcast.record.caches import cache_arguments

if TYPE_CHECKING:
    import torch

    from vramcast.job import GenerationJob


def generate_greedily(job: GenerationJob, model: Any, prompt: torch.Tensor, attention_mask: torch.Tensor) -> None:
    """Exactly `job.max_new_tokens` tokens for every sequence, in eager mode.

    Args:
        job: what is generated.
        model: on the device, in evaluation mode.
        prompt: token ids, [B, T].
        attention_mask: ones, [B, T].
    """
    from transformers import GenerationConfig

    # Without an end-of-text token every sequence gets all its tokens; the checkpoint's own settings must not add it
    # back.
    model.generation_config = GenerationConfig(pad_token_id=0)
    model.generate(
        prompt,
        attention_mask=attention_mask,
        do_sample=False,
        max_new_tokens=job.max_new_tokens,
        use_cache=True,
        disable_compile=True,
        **cache_arguments(job, model),
    )
