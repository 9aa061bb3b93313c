"""What commands do with an answer: print it as JSON, tell the exit code, show progress where somebody is looking."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from vramcast.cli.parameters import EXIT_DOES_NOT_FIT, EXIT_DONE

if TYPE_CHECKING:
    from vramcast.forecast import Forecast
    from vramcast.progress import Progress


def print_json(answer: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(answer))


def code_of(forecast: Forecast, check: bool) -> int:
    """1 where `--check` was given and the job does not fit, else 0."""
    return EXIT_DOES_NOT_FIT if check and forecast.verdict == "does_not_fit" else EXIT_DONE


def progress_on_terminal() -> AbstractContextManager[Progress | None]:
    """Progress as a line on stderr; where stderr is no terminal, nothing, and nothing is imported for it."""
    if not sys.stderr.isatty():
        return nullcontext()
    from vramcast.views.progress_line import progress_line

    return progress_line()
