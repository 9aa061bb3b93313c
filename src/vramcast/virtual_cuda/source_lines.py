"""Which line of source asked for each allocation.

In forward it is the nearest frame that is neither torch's nor vramcast's nor the standard library's. In backward there is no such frame
below `backward()`, so the line is that of the forward operator whose gradient is computed: autograd numbers its nodes in order of
creation, and each number is noted with the line that was running.
"""

from __future__ import annotations

import sys
import sysconfig
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

_OWN_FOLDER = Path(__file__).parent.parent
_PASSED_OVER = (
    *(str(_OWN_FOLDER / room) for room in ("virtual_cuda", "dry_run")), str(Path(torch.__file__).parent), "<frozen", "<string>",
)  # fmt: skip
_RECORDERS = str(_OWN_FOLDER / "record")
_HELPER_FILES = ("safetensors/torch.py",)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed packages, which may lie inside of the standard library's."""


class SourceLine(NamedTuple):
    """A line of Python source."""

    path: str
    """As Python names it: absolute, or as the script was given."""
    number: int
    function: str

    @property
    def is_recorders(self) -> bool:
        """Whether it is vramcast's own loop, which is recorded for tapes, and tells a user nothing."""
        return self.path.startswith(_RECORDERS)

    def __str__(self) -> str:
        return f"{_short(self.path)}:{self.number} in {self.function}"


UNKNOWN_LINE = SourceLine("an unknown line", 0, "?")


def running_line() -> SourceLine:
    """The nearest frame of the user's code or of a library that is not torch."""
    return _nearest(sys._getframe(1), _is_passed_over) or _nearest(sys._getframe(1), _is_torch_or_ours) or UNKNOWN_LINE


def _nearest(frame: FrameType | None, is_passed_over: Callable[[str], bool]) -> SourceLine | None:
    while frame is not None:
        code = frame.f_code
        if not is_passed_over(code.co_filename):
            return SourceLine(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return None


@lru_cache(maxsize=4096)
def _is_passed_over(filename: str) -> bool:
    return _is_torch_or_ours(filename) or _is_standard_library(filename)


@lru_cache(maxsize=4096)
def _is_torch_or_ours(filename: str) -> bool:
    return filename.startswith(_PASSED_OVER) or filename.endswith(_HELPER_FILES)


def _is_standard_library(filename: str) -> bool:
    return filename.startswith(_STANDARD_LIBRARY) and not any(folder in filename for folder in _INSTALLED)


@lru_cache(maxsize=4096)
def _short(path: str) -> str:
    """The path inside an installed package; of other files the name."""
    parts = Path(path).parts
    return str(Path(*parts[parts.index("site-packages") + 1 :])) if "site-packages" in parts else Path(path).name


class SourceLines:
    """Follows lines through forward and backward."""

    def __init__(self) -> None:
        self.of_allocations: list[SourceLine] = []
        """For every allocation of the timeline, in its order, the line that asked for it."""
        self._node_numbers: list[int] = []
        self._node_lines: list[SourceLine] = []
        self._last_noted = -1

    def note_operator(self) -> None:
        """An operator ran: the autograd node just made, if any, belongs to the line that is running."""
        number = _last_node_number()
        if number <= self._last_noted:
            return
        self._last_noted = number
        line = running_line()
        if not self._node_lines or line != self._node_lines[-1]:
            self._node_numbers.append(number)
            self._node_lines.append(line)

    def note_allocation(self) -> None:
        """An allocation was appended to the timeline."""
        self.of_allocations.append(self.current_line())

    def current_line(self) -> SourceLine:
        """The forward line of the autograd node that runs, or else the running line."""
        return self._line_of_running_node() or running_line()

    def _line_of_running_node(self) -> SourceLine | None:
        node: Any = torch._C._current_autograd_node()
        # A checkpoint runs forward code again within a node: the running lines say more than the node's.
        if node is None or torch.is_grad_enabled():
            return None
        number = node._sequence_nr()
        if number > _last_node_number():
            return None  # gradient accumulators carry the largest number of all
        position = bisect_right(self._node_numbers, number) - 1
        return self._node_lines[position] if position >= 0 else None


def _last_node_number() -> int:
    return torch._C._autograd._get_sequence_nr() - 1
