"""A model small enough to train within a test, a text for it, and how tests train it."""

from collections.abc import Callable

from vramcast.gpt.report import TrainingResult

MICRO = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "vocab_size": 512, "batch_size": 4, "dropout": 0.1}
SENTENCES = "the tape is replayed. a tensor is born and dies; its bytes are counted!\nevery peak is a maximum\n\n"

Train = Callable[..., TrainingResult]
"""`train` with the micro model; settings by keyword."""
