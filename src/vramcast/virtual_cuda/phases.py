"""What the code is doing: load, forward, backward, recompute, optimizer, or a name that a recorder gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vramcast.virtual_cuda.modules import ModuleTracker


class PhaseTracker:
    """The current phase, told by the autograd engine, the optimizers' hooks and the modules that run."""

    def __init__(self, modules: ModuleTracker) -> None:
        self._modules = modules
        self._names: list[str] = []
        self.backward_depth = 0
        """Backward passes that run, one inside the other (a reentrant checkpoint starts a second)."""
        self.in_optimizer = False
        self.ran_forward = False

    @property
    def current(self) -> str:
        """Name of the phase."""
        if self.backward_depth:
            return "recompute" if self._modules.inside else "backward"
        if self.in_optimizer and not self._modules.inside:  # a closure may run the model within a step
            return "optimizer"
        if self._names:
            return self._names[-1]
        if self._modules.inside or self.ran_forward:
            return "forward"
        return "load"

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Name what the block does, for code whose phase cannot be seen (loading, prefill, decoding)."""
        self._names.append(name)
        try:
            yield
        finally:
            self._names.pop()
