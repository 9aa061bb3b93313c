"""Small dimensions to record a tape at: primes, on the same side of every threshold as the question.

A program takes another path where a dimension is 1, where a sequence is longer than the sliding window, where a head is wider
than 256 or no multiple of 8. The recordings are made at dimensions that agree with the question in all of these, and the
tape stores them as guards. A third set, of round numbers as models have them, is for checking the tape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vramcast.errors import RecordingError
from vramcast.models import ModelConfig, model_from_fields
from vramcast.models.families import families
from vramcast.tapes.expressions import Expression
from vramcast.tapes.structure import LayerPattern, layer_pattern
from vramcast.tapes.structure_rules import rules
from vramcast.tapes.tape import Guard

WIDEST_GROUPED_HEAD = 256
"""transformers asks for grouped attention only up to this head dimension, and copies keys and values beyond."""
MASK_ALIGNMENT = 16
"""Efficient attention reads a mask in vectors of so many elements, and copies one whose rows have another length."""
ALIGNMENTS = (8, 4, 2)
"""Kernels ask whether a width is a multiple of these."""
RECORDED_REPETITIONS = 6
"""Fewer are too few: the first two and the last layer of some models end their lives in another order."""

Three = tuple[int, int, int]
"""A size in each set: two to record at, one to check at."""

_SIZES: dict[str, Three] = {
    "B": (43, 47, 8),
    "H": (5, 7, 4),
    "K": (5, 3, 2),
    "G": (3, 7, 4),
    "M": (31, 37, 32),
    "F": (61, 67, 96),
    "V": (1009, 1201, 512),
    "P": (503, 601, 512),
    "X": (11, 17, 4),
    "C": (7, 5, 2),
}
_ODD = {"H": 9, "K": 3, "G": 3, "M": 33, "F": 33}
"""To check at, where experts have widths that are no multiple of 8."""
_MANY_SEQUENCES: Three = (3109, 3251, 4096)
"""Of one token each: enough for every kernel that changes its path with the number of tokens, as the lengths below are."""
_LENGTHS: dict[tuple[bool, bool | None], Three] = {
    (False, None): (101, 149, 256),
    (False, True): (16 * 97, 32 * 53, 256),
    (False, False): (101, 149, 250),
    (True, None): (3109, 3251, 4096),
    (True, True): (16 * 193, 32 * 101, 4096),
    (True, False): (3109, 3251, 4090),
}
"""(one sequence alone, multiple of `MASK_ALIGNMENT` or None where it does not matter) -> lengths.

Of two multiples only one is a multiple of 32 as well, else lengths rounded up to 32 would look like lengths with 16 added."""
_WIDE_WINDOW: Three = (4001, 4507, 8192)
_NARROW_WINDOW: Three = (71, 73, 64)
_HEADS: tuple[tuple[int, dict[int, Three]], ...] = (
    (192, {8: (104, 88, 64), 4: (52, 44, 36), 2: (26, 22, 34), 1: (13, 23, 33)}),
    (224, {8: (208, 200, 216), 4: (196, 212, 204), 2: (206, 214, 202), 1: (197, 211, 201)}),
    (256, {8: (232, 248, 256), 4: (236, 244, 252), 2: (226, 254, 250), 1: (227, 239, 255)}),
    (10**9, {8: (296, 328, 320), 4: (316, 332, 300), 2: (262, 274, 310), 1: (257, 263, 301)}),
)
"""(widest head, multiple -> sizes): some GPU changes its path at each of these widths. The sizes to record at are the multiple times
a number that shares no factor with another dimension of its set."""


def recording_values(config: ModelConfig, batch_size: int, sequence_length: int) -> tuple[dict[str, int], ...]:
    """Two sets of letters -> values on the same side of every threshold as the question; without layers.

    Raises:
        RecordingError: the model looks at the length of a sequence in a way that no threshold tells.
    """
    _check_rotary_embedding(config.fields)
    return tuple(_values(config, batch_size, sequence_length, i) for i in (0, 1))


def checking_values(config: ModelConfig, batch_size: int, sequence_length: int) -> dict[str, int]:
    """A third set on the same side: round numbers, as models have them."""
    return _values(config, batch_size, sequence_length, 2)


def _values(config: ModelConfig, batch_size: int, sequence_length: int, i: int) -> dict[str, int]:
    sizes = config.dimensions
    asked = {"B": batch_size, "F": sizes.intermediate_size, "V": sizes.vocab_size, "P": 2, **_asked_heads(config)}
    if sizes.num_experts is not None:
        asked |= {"X": sizes.num_experts, "C": sizes.num_experts_per_token or 1}
    known = {letter: three[i] for letter, three in _SIZES.items()}
    if i == 2 and _has_unaligned_experts(config):
        known |= _ODD
    values = {letter: 1 if value == 1 else known[letter] for letter, value in asked.items()}
    aligned = None
    if sizes.sliding_window is not None:
        masked = sequence_length >= sizes.sliding_window
        aligned = sequence_length % MASK_ALIGNMENT == 0 if masked else None
        values["W"] = (_NARROW_WINDOW if masked else _WIDE_WINDOW)[i]
    values["T"] = 1 if sequence_length == 1 else _LENGTHS[batch_size == 1, aligned][i]
    if sequence_length == 1 and batch_size > 1:
        values["B"] = _MANY_SEQUENCES[i]
    values["P"] = max(values["P"], values["T"] + 400 + 2 * i)
    values["D"] = next(table for limit, table in _HEADS if sizes.head_dim <= limit)[alignment_of(sizes.head_dim)][i]
    _set_widths(config, values, known["M"])
    return values


def _asked_heads(config: ModelConfig) -> dict[str, int]:
    heads, groups = config.dimensions.num_attention_heads, config.dimensions.num_key_value_heads
    return {"H": heads} if heads == groups else {"K": groups, "G": heads // groups}


def _set_widths(config: ModelConfig, values: dict[str, int], head_part: int) -> None:
    """Hidden and feed-forward size: by rule, or free; those of experts share the largest power of two with the question's.

    A free hidden size is `head_part` for each head, as configurations are checked for.
    """
    sizes, family = config.dimensions, families()[config.model_type]
    hidden_unit = 1
    if sizes.num_experts is not None:
        values["F"] *= alignment_of(sizes.intermediate_size) if values["F"] > 1 else 1
        hidden_unit = alignment_of(sizes.hidden_size)
    values["E"] = _heads(values) * values["D"]
    if family.explicit_head_dim:
        values["E"] = _heads(values) * head_part * hidden_unit
    if not family.keys("intermediate_size"):
        values["F"] = values["E"] * (family.intermediate_factor or 1)


def _has_unaligned_experts(config: ModelConfig) -> bool:
    sizes = config.dimensions
    if sizes.num_experts is None:
        return False
    return min(alignment_of(sizes.hidden_size), alignment_of(sizes.intermediate_size)) < max(ALIGNMENTS)


def alignment_of(size: int) -> int:
    """The largest of `ALIGNMENTS` that divides a size, else 1."""
    return next((multiple for multiple in ALIGNMENTS if size % multiple == 0), 1)


def _heads(values: Mapping[str, int]) -> int:
    return values["H"] if "H" in values else values["K"] * values["G"]


def _check_rotary_embedding(fields: Mapping[str, Any]) -> None:
    for name in ("rope_parameters", "rope_scaling"):
        kind = (fields.get(name) or {}).get("rope_type", "default")
        if kind not in rules()["static_rope_types"]:
            raise RecordingError(f"rotary embedding of kind {kind!r} looks at the length of the sequence")


def composite_letters(config: ModelConfig) -> tuple[str, ...]:
    """Letters whose value contains others' (see `Symbols`)."""
    return ("E",) if families()[config.model_type].explicit_head_dim else ()


def symbol_values(config: ModelConfig, values: Mapping[str, int]) -> dict[str, int]:
    """The letters that formulas are written in: without sizes that follow from others."""
    family = families()[config.model_type]
    dependent = set() if family.explicit_head_dim else {"E"}
    dependent |= set() if family.keys("intermediate_size") else {"F"}
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
    ):
        if name in fields:
            others[name] = value
    return others


def guards(config: ModelConfig, values: Mapping[str, int]) -> tuple[Guard, ...]:
    """The conditions that these dimensions meet and every question to the tape must meet as well."""
    one = Expression(1)
    letters = [letter for letter in symbol_values(config, values) if letter not in "PW"]
    found = [Guard("==" if values[letter] == 1 else ">", Expression(1, (letter,)), one) for letter in letters]
    if "H" in values:  # without groups, keys and values have as many heads as queries
        found.append(Guard("==", Expression(1, ("G",)), one))
    found += _window_guards(values)
    found += _alignment_guards("D", values["D"])
    head = Expression(1, ("D",))
    found.append(Guard("<=" if values["D"] <= WIDEST_GROUPED_HEAD else ">", head, Expression(WIDEST_GROUPED_HEAD)))
    if "X" in values:
        found += [guard for letter in "EF" for guard in _alignment_guards(letter, values[letter])]
    return tuple(found)


def _window_guards(values: Mapping[str, int]) -> list[Guard]:
    if "W" not in values:
        return []
    length, window = Expression(1, ("T",)), Expression(1, ("W",))
    if values["T"] < values["W"]:
        return [Guard("<", length, window)]
    aligned = values["T"] % MASK_ALIGNMENT == 0
    return [
        Guard(">=", length, window),
        Guard(">", window, Expression(1)),
        Guard("multiple of" if aligned else "no multiple of", length, Expression(MASK_ALIGNMENT)),
    ]


def _alignment_guards(letter: str, size: int) -> list[Guard]:
    """That a width shares this power of two, and no larger one."""
    found, multiple = [], alignment_of(size)
    if multiple > 1:
        found.append(Guard("multiple of", Expression(1, (letter,)), Expression(multiple)))
    if multiple < max(ALIGNMENTS):
        found.append(Guard("no multiple of", Expression(1, (letter,)), Expression(2 * multiple)))
    return found


def size_guards(found: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """Of these conditions those that the sizes of parameters depend on: what an optimizer's step allocates asks for no more."""
    batch = {"B", "T", "W"}
    return tuple(
        guard
        for guard in found
        if batch.isdisjoint(guard.left.atoms) and guard.right != Expression(WIDEST_GROUPED_HEAD)
    )
