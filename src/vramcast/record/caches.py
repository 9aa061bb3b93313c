"""Key-value caches of a generation: transformers' own, and one that keeps another dtype than the model's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from vramcast.record.building import DTYPES

if TYPE_CHECKING:
    from vramcast.job import GenerationJob


def cache_arguments(job: GenerationJob, model: Any) -> dict[str, Any]:
    """Keyword arguments of `model.generate` that choose the cache.

    A cache dtype other than the model's needs a cache that casts: transformers' own layers (sliding windows included)
    with keys and values cast on the way in, and the whole layer cast back on the way out, as its quantised caches do.
    Each step then holds one layer's cache in the model's dtype as well.
    """
    if job.kv_cache_dtype is None or job.kv_cache_dtype == job.precision:
        return {"cache_implementation": "static"} if job.cache == "static" else {}
    from transformers import DynamicCache, StaticCache

    config = model.config.get_text_config(decoder=True)
    if job.cache == "static":
        cache = StaticCache(config=config, max_cache_len=cached_tokens(job.prompt_length, job.max_new_tokens))
    else:
        cache = DynamicCache(config=config)
    for layer in cache.layers:
        layer.__class__ = _casting(type(layer), DTYPES[job.kv_cache_dtype])
    return {"past_key_values": cache}


def cached_tokens(prompt_length: int, max_new_tokens: int) -> int:
    """Tokens in the cache at the end of a generation: the last token is chosen but never read, so its keys are never
    made.

    Source: `max_cache_length = generation_config.max_length - 1` in transformers `generation/utils.py`.
    """
    return prompt_length + max_new_tokens - 1


def cached_tensors(cache: Any) -> Iterator[torch.Tensor]:
    """Keys, values and recurrent states that a cache holds now; its counters of positions (no dimensions) are left
    out."""
    for layer in getattr(cache, "layers", ()):
        for value in vars(layer).values():
            for tensor in value.values() if isinstance(value, dict) else (value,):
                if isinstance(tensor, torch.Tensor) and tensor.dim() > 0:
                    yield tensor


def _casting(layer_class: Any, cache_dtype: torch.dtype) -> type:
    """A subclass of a cache layer that keeps `cache_dtype` and hands out the model's dtype."""

    def update(self: Any, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        dtype = key_states.dtype
        key_states, value_states = key_states.to(cache_dtype), value_states.to(cache_dtype)
        keys, values = layer_class.update(self, key_states, value_states, *args, **kwargs)
        return keys.to(dtype), values.to(dtype)

    # `_layer_type` is cleared because transformers registers every subclass that has one as the default for its kind of
    # layer.
    return type(f"Casting{layer_class.__name__}", (layer_class,), {"update": update, "_layer_type": None})
