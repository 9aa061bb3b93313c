"""Dimensions of a model from the fields of its config.json, each checked."""

from typing import Any

from vramcast.errors import ModelConfigError, shown
from vramcast.models.config import Dimensions
from vramcast.models.families import Family, upper_limit

_REQUIRED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")


def use_own_spelling(family: Family, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with every alias (`n_embd` in a Llama config) renamed to the key that the configuration class reads.

    Raises:
        ModelConfigError: two spellings of one dimension that disagree.
    """
    renamed = dict(fields)
    for dimension in Dimensions.model_fields:
        present = [key for key in family.keys(dimension) if key in fields]
        for key in present[1:]:
            if fields[key] != fields[present[0]]:
                raise ModelConfigError(
                    key, fields[key], f"disagrees with {present[0]}={shown(fields[present[0]])}; keep one of them"
                )
        for key in present:
            if key != family.keys(dimension)[0]:
                renamed[family.keys(dimension)[0]] = renamed.pop(key)
    return renamed


def read_dimensions(family: Family, fields: dict[str, Any]) -> Dimensions:
    """Dimensions of a model whose `fields` use the class's own spelling.

    Raises:
        ModelConfigError: a field is missing, of the wrong type, out of range, or does not divide what it has to.
    """
    sizes = {dimension: _required(family, fields, dimension) for dimension in _REQUIRED}
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    dimensions = Dimensions(
        **sizes,
        num_key_value_heads=_key_value_heads(family, fields, heads),
        head_dim=_head_dim(family, fields, hidden, heads),
        intermediate_size=_intermediate_size(family, fields, hidden),
        context_length=_required(family, fields, "context_length"),
        tie_word_embeddings=read_flag(fields, "tie_word_embeddings", family.tied),
        sliding_window=_sliding_window(family, fields),
        num_experts=_optional(family, fields, "num_experts"),
        num_experts_per_token=_optional(family, fields, "num_experts_per_token"),
    )
    _check_experts(dimensions)
    _check_layer_types(fields, dimensions.num_hidden_layers)
    return dimensions


def read_size(field: str, value: object, limit: int) -> int:
    """`value` as a positive int not above `limit`.

    Raises:
        ModelConfigError: anything else; names field, value and fix.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelConfigError(
            field, value, f"must be a whole number, not {_type_name(value)}; write it without quotes or point"
        )
    if not 1 <= value <= limit:
        raise ModelConfigError(field, value, f"must be between 1 and {limit}")
    return value


def read_flag(fields: dict[str, Any], key: str, default: bool) -> bool:
    """A boolean field.

    Raises:
        ModelConfigError: neither true nor false.
    """
    value = fields.get(key, default)
    if not isinstance(value, bool):
        raise ModelConfigError(key, value, "must be true or false")
    return value


def _read_switch(fields: dict[str, Any], key: str, default: bool) -> bool:
    """A boolean that classes take null for, and read as false."""
    return read_flag(fields, key, default) if fields.get(key, default) is not None else False


def _required(family: Family, fields: dict[str, Any], dimension: str) -> int:
    value = _optional(family, fields, dimension)
    if value is None:
        key = family.keys(dimension)[0]
        raise ModelConfigError(
            key, None, f"missing; add it to the configuration, such as {key!r}: {_EXAMPLES[dimension]}"
        )
    return value


def _optional(family: Family, fields: dict[str, Any], dimension: str) -> int | None:
    keys = family.keys(dimension)
    if keys and fields.get(keys[0]) is not None:
        return read_size(keys[0], fields[keys[0]], upper_limit(dimension))
    return None if keys and keys[0] in fields else family.defaults.get(dimension)


def _key_value_heads(family: Family, fields: dict[str, Any], heads: int) -> int:
    off = family.multi_query_off is not None and _read_switch(fields, family.multi_query_off, False)
    if family.multi_query is not None and not off and _read_switch(fields, family.multi_query, True):
        return 1
    value = _optional(family, fields, "num_key_value_heads")
    if value is not None and heads % value:
        raise ModelConfigError(
            family.keys("num_key_value_heads")[0], value, f"does not divide num_attention_heads={heads}"
        )
    return heads if value is None else value


def _head_dim(family: Family, fields: dict[str, Any], hidden: int, heads: int) -> int:
    explicit = _optional(family, fields, "head_dim") if family.explicit_head_dim else None
    if explicit is not None:
        return explicit
    if hidden % heads:
        key, head_key = family.keys("hidden_size")[0], family.keys("num_attention_heads")[0]
        fix = f"is not divisible by {head_key}={heads}; change one of them"
        raise ModelConfigError(key, hidden, fix + (" or give head_dim" if family.explicit_head_dim else ""))
    return hidden // heads


def _intermediate_size(family: Family, fields: dict[str, Any], hidden: int) -> int:
    if family.intermediate_factor is None:
        return _required(family, fields, "intermediate_size")
    value = _optional(family, fields, "intermediate_size")
    return family.intermediate_factor * hidden if value is None else value


def _sliding_window(family: Family, fields: dict[str, Any]) -> int | None:
    if family.window_switch is not None and not read_flag(fields, family.window_switch, False):
        return None
    keys = family.keys("sliding_window")
    if not keys or keys[0] not in fields:
        return family.window_default
    return _optional(family, fields, "sliding_window")


def _check_experts(dimensions: Dimensions) -> None:
    experts, used = dimensions.num_experts, dimensions.num_experts_per_token
    if experts is not None and used is not None and used > experts:
        raise ModelConfigError("num_experts_per_tok", used, f"exceeds the number of experts, {experts}")


def _check_layer_types(fields: dict[str, Any], layers: int) -> None:
    kinds = fields.get("layer_types")
    if kinds is None:
        return
    if not isinstance(kinds, list):
        raise ModelConfigError("layer_types", kinds, "must be a list with one entry for each layer")
    if len(kinds) != layers:
        raise ModelConfigError("layer_types", kinds, f"has {len(kinds)} entries for num_hidden_layers={layers}")


def _type_name(value: object) -> str:
    names = {bool: "a boolean", str: "a string", float: "a decimal number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


_EXAMPLES = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "vocab_size": 50257,
    "context_length": 1024,
    "intermediate_size": 3072,
}
