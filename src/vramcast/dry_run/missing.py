"""Libraries of CUDA kernels that a script tries to import and this machine lacks: where they are, the script takes another way."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import FrameType, ModuleType

from vramcast.dry_run.traceback import is_users
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.refusals import cuda_names

_IMPORT_SYSTEM = "<frozen importlib"
_LOOKS_ONLY = "<frozen importlib.util>"


class _LastFinder(MetaPathFinder):
    """Asked after all others, so only for what is not there."""

    def __init__(self, machine: VirtualGPU) -> None:
        self._machine = machine

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Find nothing, and note who asked."""
        if fullname in cuda_names()["libraries"] and _asked_by_script():
            self._machine.assumptions.add_with_line(
                f"{fullname} is not installed here; where it is, the script may go another way: it was asked for"
            )


def _asked_by_script() -> bool:
    """Whether an `import` of the user's own code is running; `importlib.util.find_spec` only looks."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
        if frame.f_code.co_filename == _LOOKS_ONLY:
            return False
        frame = frame.f_back
    return frame is not None and is_users(frame.f_code.co_filename)


@contextmanager
def told_of_missing_libraries(machine: VirtualGPU) -> Iterator[None]:
    """Inside the block the machine's assumptions say what was missed."""
    finder = _LastFinder(machine)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
