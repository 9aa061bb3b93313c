"""Small dimensions to record a tape at: primes, on the same side of every threshold as the question.

A program takes another path where a dimension is 1, where a sequence is longer than the sliding window, where a head is wider
than 256 or no multiple of 8. The recordings are made at dimensions that agree with the question in all of these, and the
tape stores them as guards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vramcast.models import ModelConfig, model_from_fields
from vramcast.models.families import families
from vramcast.tapes.expressions import Expression
from vramcast.tapes.structure import LayerPattern, layer_pattern, rules
from vramcast.tapes.tape import Guard

WIDEST_GROUPED_HEAD = 256
"""transformers asks for grouped attention only up to this head dimension, and copies keys and values beyond."""

_PRIMES: dict[str, tuple[int, int]] = {
    "B": (43, 47),
    "T": (101, 149),
    "H": (5, 7),
    "K": (5, 3),
    "G": (3, 7),
    "M": (31, 37),
    "F": (61, 67),
    "V": (1009, 1201),
    "P": (503, 601),
    "X": (11, 17),
    "C": (2, 3),
}
_LONG_SEQUENCE = (3109, 3251)
"""With a batch of 1: long enough for every kernel that changes its path with the number of tokens."""
_WIDE_WINDOW, _NARROW_WINDOW = (4001, 4507), (71, 73)
_HEAD_PRIMES = ((128, (13, 11)), (192, (17, 23)), (256, (29, 31)))
_WIDER_HEAD_PRIMES = (37, 41)
_ALIGNED = 8
RECORDED_REPETITIONS = 6
"""Fewer are too few: the first two and the last layer of some models end their lives in another order."""


def recording_values(config: ModelConfig, batch_size: int, sequence_length: int) -> tuple[dict[str, int], ...]:
    """Two sets of letters -> values on the same side of every threshold as the question; without layers."""
    sizes = config.dimensions
    heads, groups = sizes.num_attention_heads, sizes.num_key_value_heads
    asked = {"B": batch_size, "T": sequence_length, "F": sizes.intermediate_size, "V": sizes.vocab_size, "P": 2}
    if heads == groups:
        asked["H"] = heads
    else:
        asked |= {"K": groups, "G": heads // groups}
    if sizes.num_experts is not None:
        asked |= {"X": sizes.num_experts, "C": sizes.num_experts_per_token or 1}
    sets = tuple({letter: 1 if value == 1 else _PRIMES[letter][i] for letter, value in asked.items()} for i in (0, 1))
    for i, values in enumerate(sets):
        if batch_size == 1 and sequence_length > 1:
            values["T"] = _LONG_SEQUENCE[i]
        values["P"] = max(values["P"], values["T"] + 400 + 2 * i)
        values["D"] = _head_dim(sizes.head_dim, i)
        if sizes.num_experts is not None:
            values["F"] *= _ALIGNED
        if sizes.sliding_window is not None:
            wide = sequence_length < sizes.sliding_window
            values["W"] = (_WIDE_WINDOW if wide else _NARROW_WINDOW)[i]
        values["E"] = _hidden_size(config, values, i)
        if not _sets_feed_forward(config):
            values["F"] = values["E"] * (families()[config.model_type].intermediate_factor or 1)
    return sets


def _sets_feed_forward(config: ModelConfig) -> bool:
    return bool(families()[config.model_type].keys("intermediate_size"))


def _head_dim(asked: int, i: int) -> int:
    primes = next((primes for limit, primes in _HEAD_PRIMES if asked <= limit), _WIDER_HEAD_PRIMES)
    return primes[i] * (8 if asked % 8 == 0 else 2 if asked % 2 == 0 else 1)


def _heads(values: Mapping[str, int]) -> int:
    return values["H"] if "H" in values else values["K"] * values["G"]


def _hidden_size(config: ModelConfig, values: Mapping[str, int], i: int) -> int:
    """heads x head_dim, or where a family sets it freely a multiple of the heads, as configurations are checked for."""
    if not families()[config.model_type].explicit_head_dim:
        return _heads(values) * values["D"]
    return _heads(values) * _PRIMES["M"][i] * (_ALIGNED if config.dimensions.num_experts is not None else 1)


def composite_letters(config: ModelConfig) -> tuple[str, ...]:
    """Letters whose value contains others' (see `Symbols`)."""
    return ("E",) if families()[config.model_type].explicit_head_dim else ()


def symbol_values(config: ModelConfig, values: Mapping[str, int]) -> dict[str, int]:
    """The letters that formulas are written in: without sizes that follow from others."""
    dependent = set() if families()[config.model_type].explicit_head_dim else {"E"}
    dependent |= set() if _sets_feed_forward(config) else {"F"}
    return {letter: value for letter, value in values.items() if letter not in dependent}


def config_at(config: ModelConfig, values: Mapping[str, int], layers: int) -> ModelConfig:
    """The same architecture at other dimensions."""
    family = families()[config.model_type]
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": values["E"],
        "num_attention_heads": _heads(values),
        "num_key_value_heads": values["H"] if "H" in values else values["K"],
        "head_dim": values["D"],
        "intermediate_size": values["F"],
        "vocab_size": values["V"],
        "context_length": values["P"],
        "sliding_window": values.get("W"),
        "num_experts": values.get("X"),
        "num_experts_per_token": values.get("C"),
    }
    fields = dict(config.fields)
    for name, value in sizes.items():
        keys = family.keys(name)
        if not keys or (name == "head_dim" and not family.explicit_head_dim):
            continue
        if value is not None and (keys[0] in fields or name != "num_key_value_heads" or family.multi_query is None):
            fields[keys[0]] = value
    fields |= _other_sizes(fields, values, layers, layer_pattern(config))
    return model_from_fields(fields, name=config.name, source="file", origin="a recording at small dimensions")


def _other_sizes(
    fields: Mapping[str, Any], values: Mapping[str, int], layers: int, pattern: LayerPattern
) -> dict[str, Any]:
    others: dict[str, Any] = {name: 0 for name in rules()["token_ids"] if isinstance(fields.get(name), int)}
    if "layer_types" in fields:
        others["layer_types"] = [pattern.kinds[i % pattern.period] for i in range(layers)]
    for name, value in (
        ("max_window_layers", layers),
        ("original_max_position_embeddings", values["P"]),
        ("word_embed_proj_dim", values["E"]),
    ):
        if name in fields:
            others[name] = value
    return others


def guards(config: ModelConfig, values: Mapping[str, int]) -> tuple[Guard, ...]:
    """The conditions that these dimensions meet and every question to the tape must meet as well."""
    letters = [letter for letter in symbol_values(config, values) if letter not in "PW"]
    found = [Guard("==" if values[letter] == 1 else ">", Expression(1, (letter,)), Expression(1)) for letter in letters]
    if "W" in values:
        found.append(Guard("<" if values["T"] < values["W"] else ">=", Expression(1, ("T",)), Expression(1, ("W",))))
    head = Expression(1, ("D",))
    for multiple in (8, 2):
        if values["D"] % multiple == 0:
            found.append(Guard("multiple of", head, Expression(multiple)))
            break
        found.append(Guard("no multiple of", head, Expression(multiple)))
    found.append(Guard("<=" if values["D"] <= WIDEST_GROUPED_HEAD else ">", head, Expression(WIDEST_GROUPED_HEAD)))
    if "X" in values:
        found += [Guard("multiple of", Expression(1, (letter,)), Expression(_ALIGNED)) for letter in "EF"]
    return tuple(found)
