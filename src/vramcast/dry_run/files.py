"""Which files a script writes: its own side effects are real, so they are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WRITING = frozenset("wax+")
_NOT_FILES = ("/dev/", "/proc/", "/sys/")


class WrittenFiles:
    """Paths opened for writing inside `noted`; made once per process, for an audit hook cannot be taken away."""

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}
        self._active = False
        sys.addaudithook(self._hear)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what the block writes."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def sentence(self) -> str | None:
        """For the user; None where nothing was written outside of caches."""
        if not self.paths:
            return None
        shown = ", ".join(list(self.paths)[:3]) + (", ..." if len(self.paths) > 3 else "")
        return f"the script itself wrote {len(self.paths)} files, which is real: {shown}"

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._active or event != "open":
            return
        path, mode = arguments[0], arguments[1]
        if isinstance(path, str) and isinstance(mode, str) and _WRITING & set(mode) and _is_file_of_the_script(path):
            self.paths[path] = None


def _is_file_of_the_script(path: str) -> bool:
    return not path.startswith(_NOT_FILES) and "__pycache__" not in Path(path).parts
