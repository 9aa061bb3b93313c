"""What transformers' configuration classes say of their fields, so that a config.json can be judged without transformers.

`class_fields.json` is read off a release by `python -m tests.models.class_fields`: the types of the fields of every family (strict
since transformers 5), other keys that its code reads, the sizes that a class fills in, which model types hold a language model of
which family, and what the model types are that no family reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from vramcast.errors import ModelConfigError
from vramcast.models.config import Dimensions
from vramcast.models.families import Family

FILE = "class_fields.json"
LANGUAGE_MODEL = "a language model"
"""Kind of a model type that is a decoder-only language model as those of the families are."""
_LEGACY = {"rope_scaling": "object | null", "rope_theta": "decimal number | whole number | null"}
"""Keys that are no fields of the classes and that all of them read."""
_ROTARY_SHARES = ("partial_rotary_factor", "rotary_pct")
_FILLED_IN = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size")


def check_field_types(model_type: str, fields: dict[str, Any]) -> None:
    """Every field that the class declares has a type it takes, and a value that its model can run with.

    Raises:
        ModelConfigError: names the field, its value and what it must be.
    """
    kinds = _LEGACY | _read()["common"] | _read()["fields"].get(model_type, {})
    ranges = _read()["ranges"].get(model_type, {})
    for name, value in fields.items():
        wanted = kinds.get(name)
        if wanted and not any(_KINDS[kind](value) for kind in wanted.split(" | ")):
            raise ModelConfigError(name, value, f"must be {_words(wanted)}")
        if name in ranges and not ranges[name][0] <= value <= ranges[name][1]:
            least, largest = ranges[name]
            raise ModelConfigError(name, value, f"must be from {least} to {largest}")
        _check_share(name, value)
    for name in ("rope_parameters", "rope_scaling"):
        _check_shares_inside(fields.get(name))


def keys_without_effect(family: Family, model_type: str, fields: dict[str, Any]) -> list[str]:
    """Keys of a config.json that neither the class declares nor any code of transformers reads, in their order."""
    own = {key for dimension in Dimensions.model_fields for key in family.keys(dimension)}
    table = _read()
    known = {*own, *_LEGACY, *table["common"], *table["fields"].get(model_type, {}), *table["read"], "model_type"}
    return [key for key in fields if key not in known]


def class_sizes(family: Family, model_type: str, fields: dict[str, Any]) -> dict[str, int]:
    """The sizes that the configuration class fills in where `fields`, in its own spelling, has no such key."""
    keys = (family.keys(dimension)[0] for dimension in _FILLED_IN if family.keys(dimension))
    defaults = _read()["defaults"].get(model_type, {})
    return {key: defaults[key] for key in keys if key not in fields and key in defaults}


def language_model_type(model_type: object, named: object) -> object:
    """Model type of the language model inside a model of several towers, as the classes of transformers choose it.

    Args:
        model_type: of the whole.
        named: what its text_config says, None where it says nothing.
    """
    entry = _read()["nested"].get(model_type) if isinstance(model_type, str) else None
    if entry is None:
        return named
    own, may_name_another = entry
    return named if may_name_another and named is not None else own


def kind_of(model_type: str) -> str | None:
    """What a model type is that no family reads ("an encoder"); None where transformers does not know it."""
    return next((kind for kind, known in _read()["kinds"].items() if model_type in known), None)


def _check_shares_inside(rotary: object) -> None:
    """Of a rotary embedding, which may differ by kind of layer: {"full_attention": {...}, "sliding_attention": {...}}."""
    if isinstance(rotary, dict):
        for name, value in rotary.items():
            _check_share(name, value)
            _check_shares_inside(value)


def _check_share(name: str, value: object) -> None:
    """Probabilities, and the part of a head that is turned; a number beyond stops the model's own code, or fills memory first."""
    if name in _ROTARY_SHARES:
        if not _is_number(value) or not 0 < value <= 1:  # type: ignore[operator]
            raise ModelConfigError(name, value, "must be a share of the head, above 0 and at most 1")
    elif name == "layerdrop":
        if value != 0:
            fix = "drops layers at random, so that no two steps take the same memory; write 0.0 for a forecast"
            raise ModelConfigError(name, value, fix)
    elif "dropout" in name or name.endswith("_pdrop"):
        if value is not None and not isinstance(value, bool) and not (_is_number(value) and 0 <= value <= 1):  # type: ignore[operator]
            raise ModelConfigError(name, value, "must be a probability from 0 to 1")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: dict[str, Callable[[object], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "whole number": _is_whole,
    "decimal number": lambda value: isinstance(value, float),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "list of whole numbers": lambda value: isinstance(value, list) and all(map(_is_whole, value)),
    "list of strings": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


def _words(kinds: str) -> str:
    """What a message says of the kinds of `class_fields.json`: "a whole number or null"."""
    words = [_ARTICLED.get(kind, f"a {kind}") for kind in kinds.split(" | ")]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


_ARTICLED = {
    "boolean": "true or false",
    "decimal number": "a decimal number, such as 1.0",
    "null": "null",
    "object": "an object",
}


@cache
def _read() -> dict[str, Any]:
    text = resources.files("vramcast.models").joinpath(FILE).read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
