"""A training job: one micro batch forward and backward on one GPU, repeated, with an optimizer step."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vramcast.job.options import MAX_BATCH, MAX_TOKENS, Attention, Checkpointing, Optimizer, Precision


class TrainingOptions(BaseModel):
    """What can be said about a training job besides its model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1
    """Sequences in one forward on one GPU (the micro batch)."""
    sequence_length: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    """Tokens of each sequence; the model's context length, at most 1024, if not given."""
    precision: Precision = "fp32"
    """fp32, amp-bf16 or amp-fp16 (fp32 weights under autocast), bf16 or fp16 (everything in that dtype)."""
    optimizer: Optimizer = "adamw"
    """adamw (PyTorch's CUDA default, foreach), adamw-fused, adamw-loop, adam, sgd, sgd-momentum, adafactor, adagrad or rmsprop."""
    attention: Attention = "sdpa"
    """sdpa (the backend PyTorch would choose on that GPU), eager, flash, efficient or math."""
    checkpointing: Checkpointing = "none"
    """Activation checkpointing: none, or full (every transformer block)."""
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """Dropout probability everywhere in the model; the model's own if not given."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1
    """Micro batches per optimizer step."""
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Clip gradients to this norm before each step; no clipping if not given."""
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


class TrainingJob(TrainingOptions):
    """What a training forecast is asked for."""

    model: str
    """A preset, a config.json or its folder, or a Hub id."""
