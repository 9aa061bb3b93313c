"""What commands do with an answer: print it as JSON, tell the exit code, show progress where somebody is looking."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from vramcast.cli.parameters import EXIT_DOES_NOT_FIT, EXIT_DONE, EXIT_NO_ANSWER
from vramcast.errors import InputError

if TYPE_CHECKING:
    from vramcast.forecast.room import Verdict
    from vramcast.progress import Progress


def print_json(answer: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(answer))


def code_of(verdict: Verdict | None, check: bool, strict: bool = False) -> int:
    """The exit code of a verdict: 3 where there is none, 1 where `--check` was given and it does not pass, else 0.

    Args:
        verdict: None where a job fits on none of several cards.
        check: a job that does not fit does not pass.
        strict: nor does one that is tight.
    """
    if verdict == "unknown":
        return EXIT_NO_ANSWER
    fails = ("does_not_fit", "tight", None) if strict else ("does_not_fit", None)
    return EXIT_DOES_NOT_FIT if check and verdict in fails else EXIT_DONE


def check_strict(check: bool, strict: bool) -> None:
    """`--strict` alone would say nothing.

    Raises:
        InputError: it was given without `--check`.
    """
    if strict and not check:
        raise InputError("--strict", True, "says what --check fails on; write --check --strict")


def progress_on_terminal() -> AbstractContextManager[Progress | None]:
    """Progress as a line on stderr; where stderr is no terminal, nothing, and nothing is imported for it."""
    if not sys.stderr.isatty():
        return nullcontext()
    from vramcast.views.progress_line import progress_line

    return progress_line()
