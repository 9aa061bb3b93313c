"""What `gpt train` and `gpt generate` are asked for; each field documented where it is defined. Needs no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vramcast.job import TrainingOptions
from vramcast.job.options import MAX_BATCH, MAX_TOKENS, GenerationPrecision

Distribution = Literal["ddp", "fsdp"]
Schedule = Literal["constant", "cosine"]
MAX_VOCABULARY = 1_000_000

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TrainedModel(BaseModel):
    """What is trained, on what, for how long."""

    model_config = _FROZEN

    name: str
    """Name of the model: its folder under --models-dir."""
    input: Path
    """Text to train on, in UTF-8."""
    config: str | None = None
    """A preset (tiny, 150M, gpt2, ...), a JSON file of one's own, or a Hugging Face config.json or its folder."""
    pretrained: str | None = None
    """Fine-tune the model of this folder instead of starting from random weights."""
    models_dir: Path = Path("models")
    """Where models are kept."""
    max_iters: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 1000
    """Optimizer steps in all, those before a resume included."""


class TrainSettings(TrainingOptions, TrainedModel):
    """A training run: what is trained, what its forecast is asked for, and the rest."""

    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH)] | None = None  # type: ignore[assignment]  # a model has its own
    """Sequences in one forward on one device; the configuration's, else 8."""
    sequence_length: Annotated[int, Field(ge=2, le=MAX_TOKENS)] | None = None
    """Tokens of each sequence; the model's context length, at most 1024, if not given."""
    learning_rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 3e-4
    """Of the optimizer, after the warm-up."""
    warmup_iters: Annotated[int, Field(ge=0, le=MAX_TOKENS)] = 0
    """Steps in which the learning rate rises from zero."""
    schedule: Schedule = "constant"
    """After the warm-up: constant, or cosine (down to a tenth at --max-iters)."""
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Gradients are clipped to this norm."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1337
    """Of the first weights, the batches and dropout."""
    eval_interval: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 100
    """Steps between two validations, each followed by a checkpoint."""
    eval_iters: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 50
    """Batches of a validation, spread evenly over the validation text; all of it if it has no more."""
    validation_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the text, from its end, that is kept for validation."""
    tokenizer: str = "bpe"
    """bpe (byte-level, trained on the input), chars, bytes, or the path of a tokenizer.json or its folder."""
    vocab_size: Annotated[int, Field(ge=2, le=MAX_VOCABULARY)] | None = None
    """Rows of the embedding, and size of a bpe trained here; by default what the tokenizer needs, rounded up to a multiple of 64."""
    resume: bool = True
    """Go on from the checkpoint of that name if there is one. --no-resume starts over and keeps the old folder under another name."""
    distributed: Distribution = "ddp"
    """With several processes (torchrun, accelerate launch): ddp, or fsdp (FSDP2, weights and optimizer states spread)."""
    gpu: str = "a100-80gb"
    """Card of the forecast where no GPU is present (see `vramcast gpus`), or custom together with --gpu-memory."""
    force: bool = False
    """Train even if the forecast says that it does not fit."""


class GenerateSettings(BaseModel):
    """A text to be generated."""

    model_config = _FROZEN

    prompt: str
    """Text to go on from."""
    name: str | None = None
    """Name of a trained model: its folder under --models-dir."""
    pretrained: str | None = None
    """Folder of a model instead of a name."""
    models_dir: Path = Path("models")
    """Where models are kept."""
    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 100
    """Tokens to generate; past the context length the older half of the text is forgotten."""
    temperature: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    """Below 1 sharper, above 1 flatter."""
    top_k: Annotated[int, Field(ge=1, le=MAX_VOCABULARY)] | None = None
    """Draw from the k most likely tokens only."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw from the most likely tokens that together have this probability."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """The same seed gives the same text."""
    greedy: bool = False
    """Always the most likely token; temperature, top-k and top-p have no say."""
    kv_cache: bool = True
    """Keep keys and values of earlier tokens; --no-kv-cache computes them again for every token."""
    precision: GenerationPrecision = "fp32"
    """Dtype of weights, activations and cache: fp32, bf16 or fp16."""
    forecast: bool | None = None
    """Forecast the memory first: by default where a GPU is present; --forecast elsewhere too, for the card of --gpu."""
    gpu: str = "a100-80gb"
    """Card of the forecast where no GPU is present (see `vramcast gpus`), or custom together with --gpu-memory."""
    gpu_memory: str | None = None
    """Memory of a custom GPU, such as 24GiB."""
    force: bool = False
    """Generate even if the forecast says that it does not fit."""
