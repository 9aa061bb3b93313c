"""What each storage is for: settled from what code does with it, often after its birth.

A block is a parameter once an `nn.Parameter` holds it, a gradient once it is some parameter's `.grad`, an optimizer state if the optimizer
keeps it, an activation if it outlives its forward pass. Everything else is temporary.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from vramcast.timeline import Category
from vramcast.virtual_cuda.storages import DisableTorchFunction, StorageRecord, StorageTable


class CategoryKeeper:
    """Knows all parameters, and what was born in the forward pass or recomputation that runs."""

    def __init__(self, storages: StorageTable) -> None:
        self._storages = storages
        # By id and not in a WeakSet: comparing tensors is an operator.
        self._parameters: dict[int, weakref.ref[torch.nn.Parameter]] = {}
        self._gathered: set[int] = set()
        """Ids of parameters made of the shards of others."""
        self.most_elements = 0
        """Elements of all parameters, unsharded, when there were most."""
        self._births: dict[str, dict[int, StorageRecord]] = {"forward": {}, "recompute": {}}

    def set(self, tensor: torch.Tensor, category: Category) -> None:
        """Say what a tensor's storage is for."""
        record = self._storages.of(tensor)
        if record is not None and record.allocation is not None:
            record.allocation.category = category

    def register_parameter(self, parameter: torch.nn.Parameter) -> None:
        """Remember a parameter from its birth."""
        key = id(parameter)
        if key not in self._parameters:
            self._parameters[key] = weakref.ref(parameter, lambda _: self._forget(key))

    def forget_parameter(self, parameter: torch.nn.Parameter) -> None:
        """Keep no weak reference to a parameter any longer."""
        self._forget(id(parameter))

    def _forget(self, key: int) -> None:
        self._parameters.pop(key, None)
        self._gathered.discard(key)

    def is_gathered(self, parameter: torch.nn.Parameter) -> None:
        """A parameter is made of the shards of another one: it takes memory, but the model has it once."""
        self._gathered.add(id(parameter))

    def parameters(self) -> list[torch.nn.Parameter]:
        """All parameters that are alive."""
        return [parameter for reference in list(self._parameters.values()) if (parameter := reference()) is not None]

    def settle(self) -> None:
        """Mark the storages of all parameters and of their gradients."""
        parameters = self.parameters()
        with DisableTorchFunction():  # parameters of lazy modules refuse most questions
            self.most_elements = max(self.most_elements, _elements(parameters, self._gathered))
        for parameter in parameters:
            self.set(parameter, "parameters")
            with DisableTorchFunction():
                grad = parameter.grad
            if grad is not None:
                self.set(grad, "gradients")

    def module_is_entered(self, module: torch.nn.Module) -> None:
        """The outermost module of a forward pass begins: its parameters and buffers are known from now on."""
        for parameter in module.parameters():
            self.register_parameter(parameter)
        for buffer in module.buffers():
            self.set(buffer, "buffers")
        self.settle()

    def optimizer_keeps(self, optimizer: Any) -> None:
        """Tensors in an optimizer's state after its step."""
        for state in getattr(optimizer, "state", {}).values():
            for value in state.values() if isinstance(state, dict) else ():
                if isinstance(value, torch.Tensor):
                    self.set(value, "optimizer_states")

    def born(self, record: StorageRecord, phase: str) -> None:
        """A storage was allocated in `phase`."""
        if phase in self._births:
            self._births[phase][id(record)] = record

    def forget(self, record: StorageRecord) -> None:
        """A storage is gone, or is none of the code's own."""
        for births in self._births.values():
            births.pop(id(record), None)

    def survivors_are_activations(self, phase: str) -> None:
        """`phase` (forward or recompute) is over: what it leaves alive is kept for backward."""
        for record in self._births[phase].values():
            if record.allocation is not None and record.allocation.category == "temporary":
                record.allocation.category = "activations"
        self._births[phase] = {}


def _elements(parameters: list[torch.nn.Parameter], gathered: set[int]) -> int:
    """Elements of the whole model, of which a rank may hold shards (`FullyShardedDataParallel` keeps them in flat parameters)."""
    flat = [parameter for parameter in parameters if "_unpadded_unsharded_size" in vars(parameter)]
    parts = {id(part) for each in flat for part in vars(each).get("_params") or ()} | {id(each) for each in flat}
    whole: int = sum(vars(each)["_unpadded_unsharded_size"].numel() for each in flat)
    return whole + sum(each.numel() for each in parameters if id(each) not in gathered and id(each) not in parts)
