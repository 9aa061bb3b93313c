"""What a virtual GPU cannot follow, by name, and what to do instead: read from `data/cuda_names.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from vramcast.errors import RecordingError


@cache
def cuda_names() -> dict[str, Any]:
    """Public names of `torch.cuda`: `harmless`, `imported`, `refused`; and `libraries` with kernels of their own."""
    text = resources.files("vramcast.virtual_cuda").joinpath("data", "cuda_names.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def library_advice(name: str) -> str | None:
    """What to do about a library with CUDA kernels of its own, or None if it is not known to have any.

    Args:
        name: a module, such as that of an `ImportError`; only its first part counts.
    """
    library = name.partition(".")[0]
    advice = cuda_names()["libraries"].get(library)
    return None if advice is None else f"{library} cannot run on a virtual GPU: {advice}."


def refusal(what: str, reason: str) -> RecordingError:
    """The error for a call that cannot be followed."""
    return unfollowable(f"{what} cannot run on a virtual GPU: {reason}.")


HEARD: list[Callable[[str], None]] = []
"""Told of every refusal: code that catches the error goes on, and what it does then is not what it does on a card."""


def unfollowable(message: str) -> RecordingError:
    """The error for what cannot be followed, in words of its own."""
    remember_refusal(message)
    return RecordingError(message)


def remember_refusal(message: str) -> None:
    """Tell the active virtual GPU of what it cannot follow."""
    for hear in HEARD:
        hear(message)


def refused_class(what: str, reason: str) -> type:
    """A class that cannot be made; a class and not a function, because libraries name it in annotations."""

    class Refused:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise refusal(what, reason)

    Refused.__name__ = Refused.__qualname__ = what.rpartition(".")[2]
    return Refused


def refused_function(what: str, reason: str) -> Any:
    """A function that cannot be called."""

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise refusal(what, reason)

    refused.__name__ = refused.__qualname__ = what.rpartition(".")[2]
    return refused
