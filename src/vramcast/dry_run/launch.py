"""Runs a file or a module as `python script.py ARGS` and `python -m module ARGS` would."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vramcast.errors import InputError


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run."""

    target: str
    """Path of a script, or name of a module."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @property
    def name(self) -> str:
        """For people: the file's name, or the module's."""
        return self.target if self.is_module else Path(self.target).name

    def check(self) -> None:
        """Look before anything is patched.

        Raises:
            InputError: no such script or module.
        """
        if self.is_module:
            self._check_module()
            return
        path = Path(self.target)
        if path.is_dir() and (path / "__main__.py").is_file():
            return
        if not path.is_file():
            raise InputError(
                "script", self.target, "no such file; give the path of a Python script, or -m and a module"
            )

    def _check_module(self) -> None:
        with _first_on_path(str(Path.cwd())):
            try:
                found = importlib.util.find_spec(self.target) is not None
            except (ImportError, ValueError):
                found = False
        if not found:
            raise InputError(
                "module", self.target, "no such module on the path; give a name that `python -m` would run"
            )

    def execute(self) -> None:
        """Run it to its end; whatever it raises passes through."""
        first = str(Path.cwd()) if self.is_module else str(Path(self.target).resolve().parent)
        with _arguments([self.target, *self.arguments]), _first_on_path(first):
            if self.is_module:
                runpy.run_module(self.target, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(self.target, run_name="__main__")


@contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = words
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = before
