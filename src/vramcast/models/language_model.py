"""The language model inside a configuration of several towers (image and text, sound and text)."""

from __future__ import annotations

from typing import Any

from vramcast.errors import ModelConfigError, shown
from vramcast.models.class_fields import class_sizes, language_model_type
from vramcast.models.families import families
from vramcast.models.quantization import QUANTIZATION_KEYS

_INNER_KEYS = ("text_config", "llm_config", "language_config", "llm_cfg", "lm_config", "thinker_config")
"""Where transformers, InternVL, DeepSeek-VL and Janus, NVILA, and Qwen-Omni keep their language model."""


def language_model(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of the language model of a configuration of several towers, and notes on what that leaves out; any other as it is.

    What is said of the whole's weights (quantised, tied) is said of its language model's. Such files leave out what equals the default
    of the language model's class, so the sizes that are missing are filled in from it.

    Raises:
        ModelConfigError: the place of the language model holds no object.
    """
    key = next((key for key in _INNER_KEYS if key in fields), None)
    whole = fields.get("model_type")
    if isinstance(whole, str) and whole in families():
        return fields, ()
    if key is None and language_model_type(whole, None) is not None:
        raise ModelConfigError("text_config", None, f"missing; it holds the language model of {shown(whole)}")
    if key is None:
        return fields, ()
    inner = fields[key]
    if not isinstance(inner, dict):
        raise ModelConfigError(key, inner, "must be an object: the configuration of the language model")
    note = f"only the language model ({key}) of {shown(whole)} is counted, not its other towers"
    language = inner | {key: fields[key] for key in QUANTIZATION_KEYS if fields.get(key) and not inner.get(key)}
    if "tie_word_embeddings" in fields:
        language.setdefault("tie_word_embeddings", fields["tie_word_embeddings"])
    if any(deeper in inner for deeper in _INNER_KEYS):
        language, notes = language_model(language)
        return language, (note, *notes)
    language["model_type"] = language_model_type(whole, inner.get("model_type"))
    return language, (note,)


def with_class_sizes(model_type: str, fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields in the class's own spelling with the sizes that it fills in, and a note that names them."""
    sizes = class_sizes(families()[model_type], model_type, fields)
    if not sizes:
        return fields, ()
    named = ", ".join(f"{name}={size}" for name, size in sizes.items())
    return fields | sizes, (f"not in the file, filled in as transformers does for {model_type}: {named}",)
