"""What is known about an aten operator before it is called: its kind, its FLOP formula, which arguments it writes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from vramcast.timeline import OperatorKind
from vramcast.virtual_cuda.operator_extents import attention_extents, matmul_extents, matmul_flops

Extents = Callable[..., tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """One overload of an operator."""

    name: str
    """aten name without overload, such as `add_`."""
    kind: OperatorKind
    extents: Extents | None
    """Takes the call's positional arguments and all of its arguments by name; None where the kind has no extents."""
    flops: Callable[..., int] | None
    """torch's formula, called as torch calls it; None for no FLOPs."""
    argument_names: tuple[str, ...]
    written: tuple[str, ...]
    """Names of the arguments that are written in place, `out=` among them."""
    outputs: frozenset[str]
    """Those of them that are `out=`: written, but no inputs."""
    writes_results: bool
    """False where memory is only allocated."""
    gradients_follow_scale: bool
    """A fused optimizer, which writes the gradients only where it has to unscale them (`fused_adam_utils.cuh`)."""


@cache
def operator_rule(func: Any) -> OperatorRule:
    """The rule of an `OpOverload`."""
    schema = func._schema
    name = schema.name.rpartition("::")[2]
    stem = _stem(name)
    kind = _kind(func, stem)
    extents, flops = _arithmetic(func, stem, kind)
    written = tuple(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write)
    return OperatorRule(
        name=name,
        kind=kind,
        extents=extents,
        flops=flops,
        argument_names=tuple(a.name for a in schema.arguments),
        written=written,
        outputs=frozenset(a.name for a in schema.arguments if a.is_out),
        writes_results=stem not in _table()["writes"]["nothing"],
        gradients_follow_scale="grads" in written and "grad_scale" in (a.name for a in schema.arguments),
    )


def named_stems() -> tuple[str, ...]:
    """Every operator that the data file names."""
    return (*_kinds(), *_table()["writes"]["nothing"])


def _stem(name: str) -> str:
    in_place = name.endswith("_") and not name.endswith("__")
    return name.removeprefix("_foreach_").removesuffix("_" if in_place else "")


def _kind(func: Any, stem: str) -> OperatorKind:
    named = _kinds().get(stem)
    if named is not None:
        return named
    if func.is_view:
        return "view"
    for overload in (func, *_functional_overloads(func, stem)):
        tagged = _tagged(overload)
        if tagged is not None:
            return tagged
    return "other"


def _tagged(func: Any) -> OperatorKind | None:
    if torch.Tag.pointwise in func.tags:
        return "pointwise"
    return "reduction" if getattr(torch.Tag, "reduction", None) in func.tags else None


def _functional_overloads(func: Any, stem: str) -> list[Any]:
    """Overloads of the operator that the stem names, nearest first: torch tags in-place and foreach variants seldom."""
    packet = getattr(torch.ops.aten, stem, None)
    if packet is None:
        return []
    names = [name for name in (func._overloadname, "default") if name in packet.overloads()]
    return [getattr(packet, name) for name in dict.fromkeys([*names, *packet.overloads()])]


def _arithmetic(func: Any, stem: str, kind: OperatorKind) -> tuple[Extents | None, Callable[..., int] | None]:
    """How the call's extents and its FLOPs are found."""
    formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
    if kind == "attention":
        return attention_extents(stem), formula
    if kind == "matmul":
        first = _table()["matmul"][stem]
        # torch's counter knows the common products only, not those of experts and of vectors.
        return matmul_extents(first), formula or matmul_flops(first)
    return None, formula


@cache
def _kinds() -> dict[str, OperatorKind]:
    kinds: dict[str, OperatorKind] = dict.fromkeys(_table()["matmul"], "matmul")
    for kind, stems in _table()["kinds"].items():
        for stem in stems:
            assert stem not in kinds, f"{stem} has two kinds"
            kinds[stem] = kind
    return kinds


@cache
def _table() -> dict[str, Any]:
    text = resources.files("vramcast.virtual_cuda").joinpath("data", "operator_kinds.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
