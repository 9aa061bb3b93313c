"""Operators whose result shape depends on values: the true shape where the values are known, else a stated upper bound."""

from __future__ import annotations

from typing import Any

import torch

from vramcast.virtual_cuda.refusals import unfollowable
from vramcast.virtual_cuda.values import Assumptions

_DYNAMIC = frozenset(
    "nonzero masked_select unique_consecutive _unique _unique2 unique_dim bincount repeat_interleave".split()
)


def is_dynamic(name: str, args: Any) -> bool:
    """True if the size of the result cannot be told from the shapes of the inputs."""
    if name == "index":
        return any(isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return name in _DYNAMIC


def result(func: Any, name: str, args: Any, kwargs: dict[str, Any], value: Any, assumptions: Assumptions) -> Any:
    """Meta result of a dynamic operator.

    Raises:
        RecordingError: the values are unknown and no upper bound is known for this operator.
    """
    if value is not None:
        return _like(value)
    if name == "repeat_interleave" and kwargs.get("output_size") is not None:
        return func(*args, **kwargs)
    bound = _upper_bound(func, name, args, kwargs)
    assumptions.add_with_line(
        f"the size of the result of {name} depends on unknown values: every element is assumed selected,"
    )
    return bound


def _like(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_like(item) for item in value)
    return torch.empty_like(value, device="meta")


def _upper_bound(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    if name == "index":
        indices: list[Any] = []
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                indices += [torch.empty(index.numel(), dtype=torch.long, device="meta")] * index.dim()
            else:
                indices.append(index)
        return func(args[0], indices)
    source = args[0]
    if name == "nonzero":
        return torch.empty(source.numel(), source.dim(), dtype=torch.long, device="meta")
    if name == "masked_select":
        return torch.empty(source.numel(), dtype=source.dtype, device="meta")
    if name in ("_unique", "_unique2", "unique_consecutive"):
        flat = torch.empty(source.numel(), dtype=source.dtype, device="meta")
        inverse = torch.empty(source.shape, dtype=torch.long, device="meta")
        counts = torch.empty(source.numel(), dtype=torch.long, device="meta")
        return (flat, inverse) if name == "_unique" else (flat, inverse, counts)
    if name == "bincount" and (kwargs.get("minlength") or (len(args) > 2 and args[2])):
        return torch.empty(kwargs.get("minlength") or args[2], dtype=torch.long, device="meta")
    raise unfollowable(
        f"{name}: the size of its result depends on values that a dry run does not have, and no upper bound is known. "
        "Pass the size explicitly (minlength=, output_size=) or keep its input on the CPU."
    )
