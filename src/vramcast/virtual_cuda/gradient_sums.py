"""Sums of gradients in the autograd engine, in place where CUDA makes them in place.

Where a tensor is used more than once, the engine adds up its gradients, and writes into the old sum if nobody else holds it. Under a
dispatch mode (and for meta tensors) it does not dare and allocates a new one each time: half a dozen activations too many in some
backward passes. Whether anybody else holds the old sum is told by the same reference counts that the engine reads; what they are for a
sum held by the engine alone is measured once, on a graph made for it. An addition of two temporaries inside a backward formula looks the
same and is taken for a sum of the engine; no formula of the operators that transformers use has one.

Source: `can_accumulate_inplace` in `torch/csrc/autograd/input_buffer.cpp`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast.errors import RecordingError

Counts = tuple[int, int]


def reference_counts(tensor: torch.Tensor) -> Counts:
    """Owners of a tensor and of its storage, as seen from inside a dispatch mode."""
    owners: int = tensor._use_count()  # type: ignore[attr-defined]
    storage_owners: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return owners, storage_owners


def in_backward() -> bool:
    """True while the autograd engine runs."""
    return torch._C._current_graph_task_id() != -1


class GradientSums:
    """Tells the engine's in-place sums from all other additions."""

    def __init__(self) -> None:
        """Measure first: once a virtual GPU is on, no graph can be run beside it."""
        self._held_by_engine_alone = _held_by_engine_alone()

    def is_in_place(self, args: Any, kwargs: dict[str, Any]) -> bool:
        """True if an `aten.add.Tensor` with these arguments would be `add_` on a GPU."""
        if kwargs or len(args) != 2 or not in_backward() or torch.is_grad_enabled():
            return False
        old = args[0]
        if not isinstance(old, torch.Tensor) or not isinstance(args[1], torch.Tensor):
            return False
        if not torch._prims_common.is_non_overlapping_and_dense_or_false(old):
            return False
        return reference_counts(old) == self._held_by_engine_alone


class _Watch(TorchDispatchMode):
    """Notes the counts of the first operand of every sum the engine makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Counts] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self._run(func, args, kwargs or {})

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        # The same depth of calls and the same held references as in the recording mode.
        if func is torch.ops.aten.add.Tensor and in_backward():
            self.seen.append(reference_counts(args[0]))
        return func(*args, **kwargs)


@cache
def _held_by_engine_alone() -> Counts:
    """Counts of a sum that only the engine holds: the gradients of a tensor used by three functions.

    Raises:
        RecordingError: this release of torch counts in a way that is not understood.
    """
    watch = _Watch()
    with watch, torch.enable_grad():
        x = torch.empty(2, 2, device="meta", requires_grad=True)
        y = x * 1
        (torch.tanh(y) + torch.exp(y) + torch.sigmoid(y)).sum().backward()
    if len(set(watch.seen)) != 1:
        raise RecordingError(
            f"torch {torch.__version__} sums gradients in an unknown way (reference counts {watch.seen})"
        )
    return watch.seen[0]
