"""The optimizers a job can name, each PyTorch's own class with the implementation CUDA would use."""

from collections.abc import Callable
from typing import Any

import torch

from vramcast.errors import InputError

_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters),
    "adamw-fused": lambda parameters: torch.optim.AdamW(parameters, fused=True),
    "adamw-loop": lambda parameters: torch.optim.AdamW(parameters, foreach=False, fused=False),
    "adam": lambda parameters: torch.optim.Adam(parameters),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
    "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-3, momentum=0.9),
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters),
}


def build_optimizer(name: str, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of that name over `parameters`.

    Raises:
        InputError: no optimizer of that name.
    """
    if name not in _OPTIMIZERS:
        raise InputError("optimizer", name, f"choose one of {', '.join(_OPTIMIZERS)}")
    return _OPTIMIZERS[name](parameters)
