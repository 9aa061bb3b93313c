"""What a distributed script leaves in the process, put back when the virtual GPU goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import torch.distributed as dist
from torch.distributed import distributed_c10d

_ATTRIBUTES = (
    ("sys", "excepthook"),
    ("torch.distributed.distributed_c10d", "_backend"),
    ("torch.distributed.distributed_c10d", "_default_pg_init_method"),
    ("torch.distributed.tensor._random", "_rng_tracker"),
)
"""Globals that `init_process_group` and DTensor set and never take back."""

_VARIABLES = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")
"""Environment variables through which accelerate's plugins tell the next `Accelerator` what they were asked for."""


def keep_state() -> Callable[[], None]:
    """Note the state now; the function it returns destroys the groups made since and puts the rest back."""
    had_group = dist.is_initialized()
    attributes = {key: getattr(sys.modules[key[0]], key[1]) for key in _ATTRIBUTES if key[0] in sys.modules}
    variables = _variables()

    def restore() -> None:
        if dist.is_initialized() and not had_group:
            dist.destroy_process_group()
        distributed_c10d._world.group_count = 0 if not had_group else distributed_c10d._world.group_count
        for module, name in _ATTRIBUTES:
            if module in sys.modules:
                setattr(sys.modules[module], name, attributes.get((module, name)))
        for variable in _variables():
            del os.environ[variable]
        os.environ.update(variables)

    return restore


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
