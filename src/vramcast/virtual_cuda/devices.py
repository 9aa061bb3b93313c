"""Device names to tags."""

from typing import Any

import torch

from vramcast.virtual_cuda.storages import HOST, TRUE_META

CPU = HOST
"""A request for the CPU: a virtual tensor becomes a virtual host tensor, a real one stays real."""


def parse_device(device: Any, current: int) -> int | None:
    """CUDA index, `CPU` or `TRUE_META` for what a user passes as a device; None for any other device type."""
    if isinstance(device, str):
        device = torch.device(device)
    if isinstance(device, torch.device):
        if device.type == "cuda":
            return current if device.index is None else device.index
        return {"cpu": CPU, "meta": TRUE_META}.get(device.type)
    if isinstance(device, int) and not isinstance(device, bool):
        return device
    return None
