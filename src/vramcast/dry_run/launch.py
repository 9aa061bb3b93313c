"""Runs a file or a module as `python script.py ARGS` and `python -m module ARGS` would."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vramcast.errors import InputError

_SHEBANG_BYTES = 256


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run."""

    target: str
    """Path of a script, name of a module, or name of a Python program on the PATH, such as `torchrun`."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @property
    def name(self) -> str:
        """For people: the file's name, or the module's."""
        return self.target if self.is_module else Path(self.target).name

    def check(self) -> None:
        """Look for a script before anything is patched; a module is looked for by `execute`, as that imports its packages.

        Raises:
            InputError: no such script.
        """
        if not self.is_module:
            self._file()

    def _file(self) -> str:
        path = Path(self.target)
        if (path.is_dir() and (path / "__main__.py").is_file()) or path.is_file():
            return self.target
        program = None if path.parent != Path() else shutil.which(self.target)
        if program is not None and _is_python(Path(program)):
            return program
        raise InputError("script", self.target, "no such file; give the path of a Python script, or -m and a module")

    @contextmanager
    def as_main(self) -> Iterator[None]:
        """The command line and the path that Python would give it, for the length of the block."""
        first = str(Path.cwd()) if self.is_module else str(Path(self._file()).resolve().parent)
        before = sys.argv, list(sys.path)
        # As `python -m` does: a package that is imported on the way to the module sees -m, and the script its own arguments.
        sys.argv = ["-m" if self.is_module else self._file(), *self.arguments]
        sys.path.insert(0, first)
        try:
            yield
        finally:
            sys.argv, sys.path[:] = before

    def execute(self) -> None:
        """Run it to its end inside `as_main`; whatever it raises passes through.

        Raises:
            InputError: no such module.
        """
        if not self.is_module:
            runpy.run_path(self._file(), run_name="__main__")
            return
        if not self._module_is_there():
            raise InputError(
                "module", self.target, "no such module on the path; give a name that `python -m` would run"
            )
        runpy.run_module(self.target, run_name="__main__", alter_sys=True)

    def _module_is_there(self) -> bool:
        try:
            return importlib.util.find_spec(self.target) is not None
        except ModuleNotFoundError as error:
            if error.name is not None and (self.target == error.name or self.target.startswith(f"{error.name}.")):
                return False
            raise  # a package on the way needs what is not installed: the script's own error
        except ValueError:
            return False


def _is_python(program: Path) -> bool:
    """Whether a program on the PATH is a Python script, as installed packages put there."""
    if not os.access(program, os.R_OK):
        return False
    with program.open("rb") as file:
        first = file.read(_SHEBANG_BYTES).split(b"\n", 1)[0]
    return first.startswith(b"#!") and b"python" in first
