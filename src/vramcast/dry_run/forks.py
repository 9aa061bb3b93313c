"""Forks of a script: their GPU memory is their own, and a card refuses a fork of a process that has used it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vramcast.script_process.run_folder import RunFolder
from vramcast.virtual_cuda import VirtualGPU

_HOOKED: list[_Forks] = []


class _Forks:
    def __init__(self, machine: VirtualGPU, folder: RunFolder) -> None:
        self.machine, self.folder = machine, folder

    def after_in_child(self) -> None:
        """The counters and the listeners belong to the first process."""
        self.machine.allocation_listeners.clear()
        self.machine.step_listeners.clear()
        if self.machine.timeline.allocations:
            self.machine.is_bad_fork = True
        else:
            self.machine.allocation_listeners.append(self._tell)

    def _tell(self) -> None:
        self.machine.allocation_listeners.clear()
        self.folder.say("child", f"a fork of the script, process {os.getpid()}, which put tensors on the GPU")


@contextmanager
def told_of_forks(machine: VirtualGPU, folder: RunFolder) -> Iterator[None]:
    """Inside the block a fork of this process behaves on the GPU as one does on a card."""
    _HOOKED.append(_Forks(machine, folder))
    _register()
    try:
        yield
    finally:
        _HOOKED.clear()


def _after_in_child() -> None:
    for forks in _HOOKED:
        forks.after_in_child()


def _register() -> None:
    global _registered
    if not _registered:
        os.register_at_fork(after_in_child=_after_in_child)
        _registered = True


_registered = False
