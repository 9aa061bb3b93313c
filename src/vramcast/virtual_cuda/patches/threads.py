"""Threads that the code starts see the virtual GPU too: torch's modes belong to a thread, and loaders of weights use several.

All threads share one machine, so that one at a time is inside an operator.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vramcast.virtual_cuda.cuda_kernels.layer import included_keys
from vramcast.virtual_cuda.patches.patch_set import PatchSet

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU


def install(machine: VirtualGPU, patches: PatchSet) -> None:
    """Replace `Thread.start`, so that what the thread runs finds the modes on."""
    start = threading.Thread.start

    def start_with_modes(self: threading.Thread) -> None:
        run = self.run

        def run_with_modes() -> None:
            with included_keys(), machine.dispatch_mode, machine.function_mode:
                run()

        self.run = run_with_modes  # type: ignore[method-assign]
        start(self)

    patches.set(threading.Thread, "start", start_with_modes)
    for mode in (machine.function_mode, machine.dispatch_mode):
        patches.set(mode, "is_on", True)
