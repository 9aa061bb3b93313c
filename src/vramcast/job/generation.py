"""A generation job: a prompt is read (prefill), then tokens are made one at a time with a key-value cache (decode)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vramcast.job.options import MAX_BATCH, MAX_TOKENS, Attention, CacheKind, GenerationPrecision


class GenerationOptions(BaseModel):
    """What can be said about a generation job besides its model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1
    """Sequences generated together."""
    prompt_length: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 512
    """Tokens of each prompt."""
    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 128
    """Tokens generated after the prompt."""
    precision: GenerationPrecision = "bf16"
    """Dtype of weights and activations: fp32, bf16 or fp16."""
    kv_cache_dtype: GenerationPrecision | None = None
    """Dtype of the key-value cache; that of the model if not given."""
    cache: CacheKind = "dynamic"
    """dynamic (grows by concatenation, transformers' default) or static (allocated in full before decoding)."""
    attention: Attention = "sdpa"
    """sdpa (the backend PyTorch would choose on that GPU), eager, flash, efficient or math."""
    gpu: str = "a100-80gb"
    """A row of the hardware file (see `vramcast gpus`), or custom together with --gpu-memory."""
    gpu_memory: str | None = None
    """Memory of a custom GPU, such as 24GiB."""
    expandable_segments: bool = False
    """PYTORCH_ALLOC_CONF=expandable_segments:True."""
    ignore_quantization: bool = False
    """Forecast the unquantised model where the configuration says that its weights are quantised."""
    margin: str | None = None
    """Memory to be left free besides, such as 1GiB, or a share of what is needed, such as 3%: added to the high end."""


class GenerationJob(GenerationOptions):
    """What a generation forecast is asked for."""

    model: str
    """A preset, a config.json or its folder, or a Hub id."""
