"""Follows the storage of every tensor of real code: births, deaths, and what each is for.

Runs below autograd as a dispatch mode, so it sees what the backward engine and the optimizer run as well. What no operator hands out
(buffers inside kernels, workspaces of libraries) it cannot see. The categories are told as on the virtual GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from vramcast.timeline import Allocation, Category, Timeline
from vramcast.virtual_cuda.categories import CategoryKeeper
from vramcast.virtual_cuda.dispatch_mode import flatten_tensors
from vramcast.virtual_cuda.gradient_sums import GradientSums, in_backward
from vramcast.virtual_cuda.modules import ModuleTracker
from vramcast.virtual_cuda.storages import StorageRecord, StorageTable

aten = torch.ops.aten
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NO_TORCH_DISPATCH = torch._C._disabled_torch_dispatch_impl
_FRESH = "lift_fresh"
"""What `torch.tensor` ends with: its argument was made out of sight just now."""
_ATTENTION_PREFIX = "_scaled_dot_product_"
_DROPOUT = ("native_dropout", "bernoulli_")
"""CUDA's operator, and what draws the mask on a CPU, where dropout has no operator of its own (`aten/src/ATen/native/Dropout.cpp`)."""


class _RealStorages(StorageTable):
    """A table of the storages of real tensors."""

    def of(self, tensor: torch.Tensor) -> StorageRecord | None:
        """The record behind a tensor; None for one that is not watched or has no storage."""
        try:
            return self.of_storage(tensor.untyped_storage())
        except (NotImplementedError, RuntimeError):  # sparse and other storage-less layouts
            return None


class StorageWatch(TorchDispatchMode):
    """`with StorageWatch("cpu") as watch:` ordinary code, then `watch.timeline`: sizes are those of the storages, unrounded.

    A tensor that was there before counts from the moment that the code first uses it, or from `adopt`.
    """

    def __init__(self, device: str) -> None:
        """Watch tensors on `cpu` or on `cuda`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.timeline = Timeline()
        self.attention_kernels: dict[str, None] = {}
        """Fused attention operators that were called."""
        self.ran_dropout = False
        self._storages = _RealStorages(self._on_death)
        self.categories = CategoryKeeper(self._storages)
        self._modules = ModuleTracker(self._on_outermost_module)
        self._sums = GradientSums()
        self._phases: list[str] = []
        self._in_optimizer = self._ran_forward = self._was_in_backward = False
        self._remove: list[Callable[[], None]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __enter__(self) -> StorageWatch:
        self._modules.install()
        hooks = [
            register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: self._optimizer_begins()),
            register_optimizer_step_post_hook(lambda optimizer, args, kwargs: self._optimizer_ends(optimizer)),
        ]
        self._remove = [self._modules.remove, *(hook.remove for hook in hooks)]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self.categories.settle()
        for remove in self._remove:
            remove()
        self._storages.clear()

    # -- what the code around says -------------------------------------------------------------------------------------

    def adopt(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Count a model, and the states of an optimizer, that were there before."""
        states = () if optimizer is None else optimizer.state.values()
        kept = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
        for tensor in (*model.parameters(), *model.buffers(), *kept):
            self._see(tensor)
        self.categories.module_is_entered(model)
        if optimizer is not None:
            self.categories.optimizer_keeps(optimizer)

    def set_category(self, tensor: torch.Tensor, category: Category) -> None:
        """Say what a tensor is for."""
        self._see(tensor)
        self.categories.set(tensor, category)

    @contextmanager
    def in_phase(self, name: str) -> Iterator[None]:
        """Name what the block does, where nothing else tells."""
        self._phases.append(name)
        try:
            yield
        finally:
            self._phases.pop()

    def mark(self, name: str) -> None:
        """Name this instant."""
        self._follow_backward()
        self.timeline.mark(name)

    # -- what is seen --------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for kind in types:
            if kind not in _PLAIN and getattr(kind, "__torch_dispatch__", _NO_TORCH_DISPATCH) is not _NO_TORCH_DISPATCH:
                return NotImplemented  # a subclass such as DTensor unwraps itself; its inner operators come back here
        with torch._C.DisableTorchFunction():
            return self._run(func, args, kwargs or {})

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func is aten.add.Tensor and self._sums.is_in_place(args, kwargs):
            func = aten.add_.Tensor  # as the engine does where no mode looks on
        self._follow_backward()
        name = func._schema.name.rpartition("::")[2]
        if name != _FRESH:
            for tensor in flatten_tensors((*args, *kwargs.values()), []):
                self._see(tensor)
        if torch.is_inference_mode_enabled() and _is_composite(func):
            return self._decompose(func, args, kwargs)
        out = func(*args, **kwargs)
        if name.startswith(_ATTENTION_PREFIX) and not name.endswith("_backward"):
            self.attention_kernels[name] = None
        self.ran_dropout = self.ran_dropout or name in _DROPOUT
        for tensor in flatten_tensors(out if isinstance(out, (list, tuple)) else (out,), []):
            self._see(tensor, name)
        return out

    def _decompose(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A composite operator in its parts, which inference mode hands over whole; a mode is off while it is called."""
        super().__enter__()  # type: ignore[no-untyped-call]
        try:
            return func.decompose(*args, **kwargs)
        finally:
            super().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def is_here(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is on the device that is watched."""
        return tensor.device.type == self.device

    def _see(self, tensor: torch.Tensor, operator: str = "") -> None:
        """A storage that is new is born in `operator`, or was there before."""
        if not self.is_here(tensor) or tensor.layout != torch.strided:
            return
        storage = tensor.untyped_storage()
        record = self._storages.of_storage(storage)
        if record is None:
            self._is_born(self._storages.add(storage, 0), tensor, operator)
        elif storage.nbytes() != record.nbytes:  # `resize_`, or an `out=` that was too small
            self._on_death(record)
            record.nbytes = storage.nbytes()
            self._is_born(record, tensor, operator)

    def _is_born(self, record: StorageRecord, tensor: torch.Tensor, operator: str) -> None:
        if not record.nbytes:
            return
        phase = self._phase if operator else "before"
        record.allocation = Allocation(
            record.nbytes,
            category="temporary" if operator else "inputs",
            phase=phase,
            module=self._modules.current_path(),
            op=operator,
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tuple(tensor.shape),
        )
        record.index = self.timeline.alloc(record.allocation)
        self.categories.born(record, phase)

    def _on_death(self, record: StorageRecord) -> None:
        if record.index >= 0:
            self.timeline.free(record.index)
            record.index = -1
        self.categories.forget(record)

    @property
    def _phase(self) -> str:
        if in_backward():
            return "recompute" if self._modules.inside else "backward"
        if self._in_optimizer and not self._modules.inside:
            return "optimizer"
        if self._phases:
            return self._phases[-1]
        return "forward" if self._modules.inside or self._ran_forward else "load"

    def _follow_backward(self) -> None:
        """What forward left alive when backward begins are the activations; what backward leaves in `.grad` the gradients."""
        now = in_backward()
        if now and not self._was_in_backward:
            self.categories.survivors_are_activations("forward")
        elif self._was_in_backward and not now:
            self.categories.settle()
        self._was_in_backward = now

    def _on_outermost_module(self, module: torch.nn.Module, entering: bool) -> None:
        if in_backward():
            if not entering:
                self.categories.survivors_are_activations("recompute")
        elif entering:
            self._ran_forward = True
            for tensor in (*module.parameters(), *module.buffers()):
                self._see(tensor)
            self.categories.module_is_entered(module)

    def _optimizer_begins(self) -> None:
        self.categories.settle()
        self._in_optimizer = True

    def _optimizer_ends(self, optimizer: Any) -> None:
        self._in_optimizer = False
        self.categories.optimizer_keeps(optimizer)


def _is_composite(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))
