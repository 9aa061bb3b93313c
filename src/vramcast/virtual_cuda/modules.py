"""Which module asked: qualified paths in forward by module hooks, in backward by the number each autograd node was born with.

Autograd numbers its nodes in order of creation. Each time a module is entered or left, the current number is noted with the path; in
backward the number of the running node then tells the module whose forward made it.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class ModuleTracker:
    """Stack of the modules being run, and the way back from autograd nodes to them.

    `on_outermost(module, entering)` is called when the first module of a stack is entered and left.
    """

    def __init__(self, on_outermost: Callable[[torch.nn.Module, bool], None]) -> None:
        self._on_outermost = on_outermost
        self._names: weakref.WeakKeyDictionary[torch.nn.Module, str] = weakref.WeakKeyDictionary()
        self._stack: list[str] = []
        self._node_numbers: list[int] = []
        self._node_paths: list[str] = []
        self._handles: list[Any] = []

    def install(self) -> None:
        """Start to follow every module of the process."""
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def remove(self) -> None:
        """Stop following."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def current_path(self) -> str:
        """Path of the module that is running, forward or backward; empty outside of any."""
        if self._stack:
            return self._stack[-1]
        node: Any = torch._C._current_autograd_node()
        if node is None:
            return ""
        return self._path_of_node(node._sequence_nr())

    @property
    def inside(self) -> bool:
        """True while some module's forward runs."""
        return bool(self._stack)

    def _path_of_node(self, number: int) -> str:
        if not self._node_numbers or number > self._last_number():
            return ""  # gradient accumulators carry the largest number of all
        position = bisect_right(self._node_numbers, number) - 1
        return self._node_paths[position] if position >= 0 else ""

    def _last_number(self) -> int:
        return torch._C._autograd._get_sequence_nr()

    def _enter(self, module: torch.nn.Module, args: Any) -> None:
        if not self._stack:
            self._on_outermost(module, True)
        name = self._names.get(module)
        if name is None:
            for path, child in module.named_modules():
                # A part that ran on its own before was called by a shorter path, from itself.
                if len(path) >= len(self._names.get(child, "")):
                    self._names[child] = path
            name = self._names[module]
        self._push(name)

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if not self._stack:
            return
        self._stack.pop()
        self._note(self._stack[-1] if self._stack else "")
        if not self._stack:
            self._on_outermost(module, False)

    def _push(self, name: str) -> None:
        self._stack.append(name)
        self._note(name)

    def _note(self, path: str) -> None:
        number = self._last_number()
        if self._node_numbers and self._node_numbers[-1] == number:
            self._node_paths[-1] = path
        else:
            self._node_numbers.append(number)
            self._node_paths.append(path)
