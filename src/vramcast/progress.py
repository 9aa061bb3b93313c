"""How long work tells that it goes on: a callback, so that the rooms below know nothing of terminals."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""
