"""What CUDA kernels need and which of them is chosen: pure functions of sizes, dtypes and hardware, without torch.

Code that runs on the virtual GPU and a replay without torch call the same functions. Memory that a kernel takes inside one operator is
a scratch rule (`scratch_buffers`, by name); which backend attention takes is `choose_backend`. This room imports nothing else of
vramcast but the errors.
"""

# Importing the files of rules registers them.
from vramcast.kernels import attention_scratch, embedding_scratch, foreach_scratch, split_keys
from vramcast.kernels.scratch_registry import rule_arguments, scratch_buffers, scratch_rule, scratch_rules
from vramcast.kernels.sdpa_choice import (
    AttentionCall,
    AttentionChoice,
    Backend,
    Capability,
    Choice,
    NoBackendError,
    choose_backend,
)

__all__ = [
    "AttentionCall",
    "AttentionChoice",
    "Backend",
    "Capability",
    "Choice",
    "NoBackendError",
    "attention_scratch",
    "choose_backend",
    "embedding_scratch",
    "foreach_scratch",
    "rule_arguments",
    "scratch_buffers",
    "scratch_rule",
    "scratch_rules",
    "split_keys",
]
