"""The words a job is written in; each list is the whole of what is accepted."""

from typing import Literal

Precision = Literal["fp32", "amp-bf16", "amp-fp16", "bf16", "fp16"]
"""`amp-*`: fp32 weights under autocast (with a gradient scaler for fp16); `bf16`, `fp16`: everything in that dtype."""

GenerationPrecision = Literal["fp32", "bf16", "fp16"]

Optimizer = Literal[
    "adamw", "adamw-fused", "adamw-loop", "adam", "sgd", "sgd-momentum", "adafactor", "adagrad", "rmsprop"
]
"""`adamw` is PyTorch's default on CUDA (foreach); `-fused` and `-loop` name its other two implementations."""

Attention = Literal["sdpa", "eager", "flash", "efficient", "math"]
"""`sdpa`: the backend PyTorch would choose on that GPU; `flash`, `efficient`, `math` allow only that one; `eager`: written out."""

Checkpointing = Literal["none", "full"]
"""`full`: activation checkpointing of every transformer block."""

CacheKind = Literal["dynamic", "static"]
"""`dynamic` grows by concatenation each step (transformers' default); `static` is allocated in full before decoding."""

MAX_TOKENS = 10**8
MAX_BATCH = 10**7
