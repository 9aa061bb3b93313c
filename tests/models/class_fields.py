"""What transformers' configuration classes say of their fields: `python -m tests.models.class_fields` writes it to the package.

The package reads a config.json without transformers; what it must know of the classes it knows from this file, and
`test_class_fields` holds the file against the release that is installed.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from vramcast.models.class_fields import FILE
from vramcast.models.families import GPT, families

SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size")
SHARED_CODE = (
    "modeling_utils modeling_layers modeling_rope_utils masking_utils cache_utils configuration_utils pytorch_utils initialization "
    "modeling_flash_attention_utils loss/loss_utils utils/generic utils/output_capturing generation/utils integrations/moe "
    "integrations/sdpa_attention integrations/eager_attention integrations/flash_attention integrations/flex_attention"
).split()
"""Modules of transformers that models of several families run."""
READ = re.compile(
    r"config\.([A-Za-z_]\w*)"
    r"|(?:get|has)attr\(\s*[\w.]*config\w*,\s*[\"'](\w+)[\"']"
    r"|kwargs\.(?:pop|get)\(\s*[\"'](\w+)[\"']"
)
"""How code reads a key of a configuration; what it finds besides does no harm: such a key is kept."""
GROUPS = {
    "a model of several towers": ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"),
    "an encoder-decoder": ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ"),
    "an encoder": ("MASKED_LM", "TEXT_ENCODING"),
    "a language model": ("CAUSAL_LM",),
    "a vision model": (
        "IMAGE_CLASSIFICATION",
        "IMAGE",
        "BACKBONE",
        "OBJECT_DETECTION",
        "ZERO_SHOT_IMAGE_CLASSIFICATION",
    ),
    "a model of sound": ("AUDIO_CLASSIFICATION", "CTC", "TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM"),
}
"""Kind of a model -> transformers' tables of the classes that do its task; the first that has it counts."""


def read_classes(towers: Iterable[str] | None = None) -> dict[str, Any]:
    """The content of the file, from the installed release; of all its model types of several towers, or of these."""
    import transformers
    from transformers import AutoConfig

    fields: dict[str, dict[str, str]] = {}
    ranges: dict[str, dict[str, list[float]]] = {}
    defaults: dict[str, dict[str, int]] = {}
    for model_type in sorted(set(families()) - {GPT}):
        described = dataclasses.fields(type(AutoConfig.for_model(model_type)))
        fields[model_type] = {field.name: " | ".join(_kinds(field.type)) for field in described if _kinds(field.type)}
        ranges |= {model_type: found} if (found := _ranges(described)) else {}
        keys = {families()[model_type].keys(size)[0] for size in SIZES if families()[model_type].keys(size)}
        defaults[model_type] = {
            field.name: field.default for field in described if field.name in keys and field.default is not None
        }
        fields[model_type] |= {field.name: "" for field in described if field.name not in fields[model_type]}
    common = dict(set.intersection(*(set(own.items()) for own in fields.values())))
    return {
        "transformers": transformers.__version__,
        "common": dict(sorted(common.items())),
        "fields": {
            model_type: {name: kinds for name, kinds in sorted(own.items()) if name not in common}
            for model_type, own in fields.items()
        },
        "ranges": ranges,
        "read": sorted(_names_read() - set(common)),
        "defaults": defaults,
        "nested": _nested(towers),
        "kinds": _model_kinds(),
    }


def _names_read() -> set[str]:
    """Names of keys that transformers' code of the families reads, fields or not."""
    import transformers

    folder = Path(transformers.__file__).parent
    modules = [file for file in (folder / f"{name}.py" for name in SHARED_CODE) if file.is_file()]
    for model_type in set(families()) - {GPT}:
        home = folder / "models" / model_type.removesuffix("_text")
        modules += [*home.glob("modeling_*.py"), *home.glob("configuration_*.py")]
    found = (READ.findall(module.read_text(encoding="utf-8")) for module in modules)
    return {name for names in found for groups in names for name in groups if name}


def _ranges(described: Iterable[Any]) -> dict[str, list[float]]:
    """Field -> least and largest value, where its class has `transformers.utils.type_validators.interval`."""
    found = {}
    for field in described:
        for validator in field.metadata.get("validator", ()):
            bounds = inspect.getclosurevars(validator).nonlocals
            assert not bounds["exclude_min"] and not bounds["exclude_max"], field.name
            found[field.name] = [bounds["min"], bounds["max"]]
    return found


def _kinds(hint: Any) -> list[str]:
    """The words of class_fields.json for a type; empty where anything is taken."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        found = [_kinds(each) for each in typing.get_args(hint)]
        return list(dict.fromkeys(kind for kinds in found for kind in kinds)) if all(found) else []
    if typing.get_origin(hint) is list:
        return [f"list of {_PLURAL[typing.get_args(hint)[0]]}"]
    if typing.get_origin(hint) is dict or typing.is_typeddict(hint):
        return ["object"]
    return [_WORDS[hint]] if hint in _WORDS else []


_WORDS = {
    bool: "boolean",
    int: "whole number",
    float: "decimal number",
    str: "string",
    types.NoneType: "null",
    dict: "object",
}
_PLURAL = {int: "whole numbers", str: "strings"}


def _nested(towers: Iterable[str] | None) -> dict[str, list[Any]]:
    """Type of a model of several towers -> [type of its language model, whether its text_config may name another]."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = {}
    for model_type in CONFIG_MAPPING if towers is None else towers:
        specs = getattr(CONFIG_MAPPING[model_type], "sub_configs_defaults", None) or {}
        spec = specs.get("text_config")
        if spec is not None and spec.model_type in families():
            found[model_type] = [spec.model_type, not hasattr(spec.config_class, "model_type")]
    return found


def _model_kinds() -> dict[str, list[str]]:
    from transformers.models.auto import modeling_auto

    kinds: dict[str, list[str]] = {}
    seen = set(families())
    for kind, tasks in GROUPS.items():
        table = {name for task in tasks for name in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")}
        kinds[kind] = sorted(table - seen)
        seen |= table
    return kinds


if __name__ == "__main__":
    with resources.as_file(resources.files("vramcast.models").joinpath(FILE)) as path:
        path.write_text(json.dumps(read_classes(), indent=1) + "\n", encoding="utf-8")
