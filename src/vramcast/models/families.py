"""The model types vramcast reads and how each spells its dimensions: families.toml as typed data."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

WAY = "`vramcast run --gpu NAME your_script.py` follows a script that builds it"
"""What a refusal of a model says where the engine could still answer."""
GPT = "vramcast_gpt"
"""Model type of this package's own GPT, the only one transformers does not know."""


@dataclass(frozen=True)
class Family:
    """One model type; the meaning of each mark stands at the head of families.toml."""

    layout: str
    tied: bool
    defaults: dict[str, int] = field(default_factory=dict)
    intermediate_factor: int | None = None
    learned_positions: bool = False
    explicit_head_dim: bool = False
    window_default: int | None = None
    window_switch: str | None = None
    multi_query: str | None = None
    multi_query_off: str | None = None

    def keys(self, dimension: str) -> list[str]:
        """Spellings of `dimension` in a config.json, the class's own first; empty where the type has no such key."""
        keys: list[str] = _table()["layouts"][self.layout].get(dimension, [])
        return keys


@cache
def families() -> dict[str, Family]:
    """Every model type that can be read."""
    return {model_type: Family(**marks) for model_type, marks in _table()["families"].items()}


def upper_limit(dimension: str) -> int:
    """Largest value of `dimension` that is taken for real."""
    limit: int = _table()["limits"][dimension]
    return limit


def why_unsupported(model_type: str) -> str | None:
    """What a known but unsupported model type is ("an encoder"), None for any other type."""
    reason: str | None = _table()["unsupported"].get(model_type)
    return reason


@cache
def _table() -> dict[str, Any]:
    text = resources.files("vramcast.models").joinpath("families.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
