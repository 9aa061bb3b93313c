"""The environment variables that set PyTorch's allocator, beside what a forecast assumes. Needs no torch."""

from __future__ import annotations

import os

from vramcast.allocator import AllocatorConfig

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""PyTorch reads one first here and the other there."""


def set_allocator(settings: str) -> list[str]:
    """Set the allocator of this process, before its first use; sentences on what the user had set otherwise."""
    notes = []
    for variable in VARIABLES:
        given = os.environ.get(variable, settings)
        if given != settings:
            notes.append(f"{variable}={given} is set aside: it runs with {settings}, as forecast")
        os.environ[variable] = settings
    return notes


def differing_settings(forecast: AllocatorConfig) -> list[str]:
    """Whether the environment sets the allocator as the forecast has it, for a process that has used it already."""
    actual = AllocatorConfig.from_environment()
    if actual == forecast:
        return []
    texts = (config.to_environment_string() or "PyTorch's defaults" for config in (actual, forecast))
    return ["the allocator runs with {}, and is forecast with {}: set PYTORCH_CUDA_ALLOC_CONF alike".format(*texts)]
