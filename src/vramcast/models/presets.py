"""Architectures that ship with the package, one config.json each, found by name or alias."""

import difflib
import json
from functools import cache
from importlib import resources
from typing import Any

OWN_KEY = "_vramcast"
"""Key of a preset that holds our notes (source, parameters, aliases); never handed on."""


def preset_names() -> list[str]:
    """Every preset, alphabetically."""
    names = (entry.name for entry in resources.files("vramcast.models").joinpath("presets").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def find_preset(name: str) -> str | None:
    """Canonical name of the preset called `name`, or known by that alias; case does not matter."""
    wanted = name.lower()
    return _own_names().get(wanted) or _aliases().get(wanted)


def preset_text(name: str) -> str:
    """The config.json of a preset."""
    return resources.files("vramcast.models").joinpath("presets", f"{name}.json").read_text(encoding="utf-8")


def close_presets(name: str, count: int = 3) -> list[str]:
    """Presets whose name or alias resembles `name`, the closest first."""
    spellings = {preset.lower(): preset for preset in preset_names()} | _aliases()
    close = difflib.get_close_matches(name.lower(), spellings, n=3 * count, cutoff=0.5)
    return list(dict.fromkeys(spellings[match] for match in close))[:count]


@cache
def _own_names() -> dict[str, str]:
    return {name.lower(): name for name in preset_names()}


@cache
def _aliases() -> dict[str, str]:
    return {alias.lower(): name for name in preset_names() for alias in _own_keys(name)["aliases"]}


def _own_keys(name: str) -> dict[str, Any]:
    own: dict[str, Any] = json.loads(preset_text(name))[OWN_KEY]
    return own
