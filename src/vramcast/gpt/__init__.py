"""[torch, transformers] The reference GPT: GPT-2's shape without biases and with an untied head, as the training guide has it."""

from vramcast.gpt.configuration import ReferenceGPTConfig
from vramcast.gpt.model import ReferenceGPTForCausalLM, register

__all__ = ["ReferenceGPTConfig", "ReferenceGPTForCausalLM", "register"]
