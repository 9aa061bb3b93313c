"""Counts every operator that GPU 0 is given, with its FLOPs, its sizes and the bytes it is given and gives back.

An operator is noted as what really runs on the GPU: a sum that the autograd engine makes in place is an `add_`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from vramcast.timeline import Operator, OperatorKind, OperatorTable
from vramcast.virtual_cuda.dispatch_mode import flatten_tensors
from vramcast.virtual_cuda.operator_rules import OperatorRule, operator_rule

if TYPE_CHECKING:
    from vramcast.virtual_cuda.modules import ModuleTracker
    from vramcast.virtual_cuda.phases import PhaseTracker

_Sizes = tuple[int, ...]
_Call = tuple[str, OperatorKind, str, str, str, _Sizes, int, _Sizes, _Sizes]
"""The fields of an `Operator` but for `calls`. Cheap to count, and of strings and numbers alone, so that the garbage collector
soon stops to look at it."""
_PHASE = 2


class OperatorInterval:
    """Operators counted from one instant to another."""

    def __init__(self) -> None:
        self.counts: dict[_Call, int] = {}

    def add(self, later: OperatorInterval) -> None:
        """Take over what a later interval counted."""
        for call, count in later.counts.items():
            self.counts[call] = self.counts.get(call, 0) + count

    def has_phase(self, name: str) -> bool:
        """True if any operator ran in that phase."""
        return any(call[_PHASE] == name for call in self.counts)

    def table(self) -> OperatorTable:
        """As plain data."""
        return OperatorTable(tuple(Operator(*call, calls=count) for call, count in self.counts.items()))


class OperatorLog:
    """Counts operators into the intervals that are open; none is open at first, and nothing is counted then."""

    def __init__(self, phases: PhaseTracker, modules: ModuleTracker) -> None:
        self._phases = phases
        self._modules = modules
        self._open: list[OperatorInterval] = []
        self._dtype_names: dict[torch.dtype, str] = {}

    def begin(self) -> OperatorInterval:
        """Open an interval; any number may be open at a time."""
        interval = OperatorInterval()
        self._open.append(interval)
        return interval

    def end(self, interval: OperatorInterval) -> OperatorInterval:
        """Close an interval, and return it."""
        self._open.remove(interval)
        return interval

    def note(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
        """Count one call, whose results are `out`; returns its FLOPs."""
        rule = operator_rule(func)
        flops = 0 if rule.flops is None else rule.flops(*args, **kwargs, out_val=out)
        if not self._open or is_shallow_copy(rule):
            return flops
        extents = () if rule.extents is None else rule.extents(args, _by_name(rule, args, kwargs))
        phase, module = self._phases.current, self._modules.current_path()
        dtype, reads, writes = self._traffic(rule, args, kwargs, out)
        call = (rule.name, rule.kind, phase, module, dtype, extents, flops, reads, writes)
        for interval in self._open:
            interval.counts[call] = interval.counts.get(call, 0) + 1
        return flops

    def _traffic(self, rule: OperatorRule, args: Any, kwargs: dict[str, Any], out: Any) -> tuple[str, _Sizes, _Sizes]:
        """dtype of the first tensor, bytes of what is read, bytes of what is written."""
        if rule.kind == "view":
            return self._dtype_name(args), (), ()
        given = args
        if kwargs:
            given = (*args, *(value for name, value in kwargs.items() if name not in rule.outputs))
        results = out if isinstance(out, tuple) else (out,)
        dtype = self._dtype_name(given) or self._dtype_name(results)
        return dtype, distinct_bytes(given), _bytes_written(rule, args, kwargs, results)

    def _dtype_name(self, values: Iterable[Any]) -> str:
        """dtype of the first tensor; empty where there is none."""
        first = _first_tensor(values)
        if first is None:
            return ""
        dtype = first.dtype
        name = self._dtype_names.get(dtype)
        if name is None:
            name = self._dtype_names[dtype] = str(dtype).removeprefix("torch.")
        return name


def is_shallow_copy(rule: OperatorRule) -> bool:
    """True for a `detach` that only a dispatch mode sees.

    Where autograd keeps a tensor it copies its handle in C++, and asks a mode, if there is one, for a `detach` in place of that
    (`shallow_copy_and_detach` in `c10/core/TensorImpl.cpp`). No dispatch leads there, so autograd's keys are not excluded yet, as they
    are below every dispatched operator.
    """
    return rule.name == "detach" and not torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOGRAD)


_AUTOGRAD: Any = getattr(torch._C.DispatchKey, "AutogradFunctionality")  # noqa: B009  (not in the type stubs)


def _first_tensor(values: Iterable[Any]) -> torch.Tensor | None:
    for value in values:
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, (list, tuple)):
            first = _first_tensor(value)
            if first is not None:
                return first
    return None


MOST_LISTED = 8
"""A list of more tensors is one number."""


def distinct_bytes(values: Iterable[Any]) -> tuple[int, ...]:
    """Bytes of each tensor: one given twice counts once, and so does an expanded dimension.

    Scalars that live on the host go to the kernel by value and count nothing.
    """
    seen: set[int] = set()
    found: list[int] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found += _own_bytes((value,), seen)
        elif isinstance(value, (list, tuple)):
            sizes = _own_bytes(flatten_tensors(value, []), seen)
            found += sizes if len(sizes) <= MOST_LISTED else [sum(sizes)]
    return tuple(found)


def _own_bytes(tensors: Iterable[torch.Tensor], seen: set[int]) -> list[int]:
    """Bytes of those tensors that were not seen before and have any."""
    found = []
    for tensor in tensors:
        if id(tensor) in seen or not (tensor.is_meta or tensor.dim()):
            continue
        seen.add(id(tensor))
        nbytes, strides = tensor.nbytes, tensor.stride()
        if nbytes and 0 in strides:
            for size, stride in zip(tensor.shape, strides, strict=True):
                nbytes //= size if stride == 0 else 1
        if nbytes:
            found.append(nbytes)
    return found


def _bytes_written(rule: OperatorRule, args: Any, kwargs: dict[str, Any], results: Iterable[Any]) -> tuple[int, ...]:
    if not rule.writes_results:
        return ()
    if not rule.written:
        return distinct_bytes(results)
    named = _by_name(rule, args, kwargs)
    unwritten = "grads" if rule.gradients_follow_scale and named.get("grad_scale") is None else None
    return distinct_bytes([*(named.get(name) for name in rule.written if name != unwritten), *results])


def _by_name(rule: OperatorRule, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(rule.argument_names, args, strict=False)), **kwargs}
