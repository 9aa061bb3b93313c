"""[torch, transformers, accelerate] The reference GPT: GPT-2's shape without biases and with an untied head, as the training guide
has it; trained and generated from for real, forecast beside measurement.

`train` and `generate` take settings (`vramcast.gpt.settings`, which needs no torch) and are what `vramcast gpt` calls.
"""

from typing import TYPE_CHECKING

from vramcast.late_names import late_names

if TYPE_CHECKING:
    from vramcast.gpt.configuration import ReferenceGPTConfig
    from vramcast.gpt.generating import generate
    from vramcast.gpt.model import ReferenceGPTForCausalLM, register
    from vramcast.gpt.training import train

__all__ = ["ReferenceGPTConfig", "ReferenceGPTForCausalLM", "generate", "register", "train"]

__getattr__ = late_names(
    __name__,
    {
        "configuration": ["ReferenceGPTConfig"],
        "generating": ["generate"],
        "model": ["ReferenceGPTForCausalLM", "register"],
        "training": ["train"],
    },
)
