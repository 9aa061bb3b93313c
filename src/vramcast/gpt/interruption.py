"""Ctrl-C and SIGTERM while training: the step is finished and saved; a second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        """The signal that came."""


@contextmanager
def stoppable() -> Iterator[Interruption]:
    """In here a signal is remembered instead of stopping the process; not outside the main thread, where Python has no signals."""
    asked = Interruption()
    before: dict[signal.Signals, object] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        asked.signal_number = number
        signal.signal(number, signal.default_int_handler)

    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, remember)
    except ValueError:
        before.clear()
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
