"""What libraries remember of the machine they run on: forgotten when a virtual GPU comes, and again when it goes.

transformers and accelerate ask once whether CUDA is there and cache the answer; accelerate keeps its device in class attributes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import _lru_cache_wrapper
from typing import Any

CACHING_MODULES = (
    "torch.utils._triton",
    "transformers.utils.import_utils",
    "transformers.utils.generic",
    "transformers.integrations.flash_attention",
    "accelerate.utils.imports",
    "accelerate.utils.environment",
    "accelerate.utils.modeling",
    "peft.import_utils",
)
"""Modules with functions that are cached and ask for the devices."""
SHARED_STATES = (
    ("accelerate.state", "PartialState"),
    ("accelerate.state", "AcceleratorState"),
    ("accelerate.state", "GradientState"),
)


def forget_machine() -> Callable[[], None]:
    """Start with empty caches and states; returns what puts the states back and makes the caches ask once more."""
    before = {place: dict(state) for place, state in _shared_states().items()}
    for state in _shared_states().values():
        state.clear()
    clear_caches()

    def put_back() -> None:
        for place, state in _shared_states().items():
            state.clear()
            state.update(before.get(place, {}))
        clear_caches()

    return put_back


def _shared_states() -> dict[tuple[str, str], Any]:
    """The dictionaries, which the libraries share among all instances, of those that are loaded."""
    return {
        (module, name): getattr(sys.modules[module], name)._shared_state
        for module, name in SHARED_STATES
        if hasattr(sys.modules.get(module), name)
    }


def clear_caches() -> None:
    """Make the cached functions ask again."""
    for module in CACHING_MODULES:
        for value in list(vars(sys.modules[module]).values()) if module in sys.modules else ():
            if isinstance(value, _lru_cache_wrapper):
                value.cache_clear()
