"""From what the user wrote for MODEL to a checked `ModelConfig`."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from vramcast.errors import ModelConfigError, UnknownModelError
from vramcast.models.config import ModelConfig, ModelSource
from vramcast.models.dimensions import read_dimensions, use_own_spelling
from vramcast.models.families import GPT, families, why_unsupported
from vramcast.models.gpt_config import complete_gpt_fields, gpt_parameters, looks_like_gpt
from vramcast.models.hub import fetch_config, looks_like_hub_id
from vramcast.models.presets import OWN_KEY, close_presets, find_preset, preset_names, preset_text
from vramcast.models.strict_json import parse_object, read_object

TRAINED_KEY = "vramcast"
"""Key of a config.json that `vramcast gpt train` wrote; `gpt` in it is the reference GPT whose equal the file describes as a GPT-2."""


def load_model(name_or_path: str | os.PathLike[str], offline: bool = False) -> ModelConfig:
    """The architecture called `name_or_path`.

    Looked for in this order: a preset or its alias, a `config.json` or a folder that holds one, a Hub id
    (`owner/name`). The Hub is never asked with `offline` or `HF_HUB_OFFLINE=1`; its local cache is read even then.

    Raises:
        UnknownModelError: nothing of that name; names close presets.
        ModelConfigError: found, but not usable; names field, value and fix.
        MissingExtraError: only the Hub could know it, and huggingface_hub is not installed.
    """
    name = os.fspath(name_or_path)
    preset = find_preset(name)
    if preset is not None:
        return _from_preset(preset)
    path = _existing_path(name)
    if path is not None:
        return _from_path(path)
    if looks_like_hub_id(name) and not name.endswith(".json"):
        config = fetch_config(name, offline)
        return model_from_fields(read_object(config), name=name, source="hub", origin=f"https://huggingface.co/{name}")
    raise _unknown(name)


def model_from_fields(fields: dict[str, Any], *, name: str, source: ModelSource, origin: str) -> ModelConfig:
    """A `ModelConfig` from the object of a config.json, checked.

    Raises:
        ModelConfigError: a field is missing or not usable; the message ends with `origin`.
    """
    try:
        return _from_fields(fields, name, source, origin)
    except ModelConfigError as error:
        raise ModelConfigError(error.field, error.value, f"{error.fix} [{origin}]") from None


def _from_fields(fields: dict[str, Any], name: str, source: ModelSource, origin: str) -> ModelConfig:
    own = fields.get(OWN_KEY, {}) if source == "preset" else {}
    fields = _trained_fields(fields)
    language, notes = _language_model({key: value for key, value in fields.items() if key != OWN_KEY})
    if looks_like_gpt(language):
        language["model_type"] = GPT
    model_type = _supported_type(language)
    family = families()[model_type]
    language = use_own_spelling(family, language)
    if model_type == GPT:
        language, more = complete_gpt_fields(language)
        notes += more
    dimensions = read_dimensions(family, language)
    parameters = own.get("parameters")
    if model_type == GPT:
        parameters = gpt_parameters(dimensions, language["bias"])
    return ModelConfig(
        name=name,
        source=source,
        origin=origin,
        model_type=model_type,
        fields=language,
        dimensions=dimensions,
        parameters=parameters,
        has_learned_positions=families()[model_type].learned_positions,
        assumptions=notes,
    )


@cache
def _from_preset(name: str) -> ModelConfig:
    fields = parse_object(preset_text(name), f"preset {name}")
    return model_from_fields(fields, name=name, source="preset", origin=fields[OWN_KEY]["source"])


def _from_path(path: Path) -> ModelConfig:
    config = path / "config.json" if path.is_dir() else path
    if path.is_dir() and not config.is_file():
        raise ModelConfigError(
            "model", str(path), "this folder has no config.json; give a folder that has one, or the file itself"
        )
    name = config.resolve().parent.name if config.name == "config.json" else config.stem
    return model_from_fields(read_object(config), name=name, source="file", origin=str(config))


def _existing_path(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except PermissionError as error:
        raise ModelConfigError(
            "model", name, f"cannot be read ({error.strerror}); check path and permissions"
        ) from error
    except (OSError, RuntimeError, ValueError):
        # Too long, a null byte, or the home of an unknown user: not a path.
        return None


def _trained_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of what was trained. A reference GPT is written as a GPT-2 with biases, which takes more memory to train."""
    rest = {key: value for key, value in fields.items() if key != TRAINED_KEY}
    written = fields.get(TRAINED_KEY)
    trained = written.get("gpt") if isinstance(written, dict) else None
    if trained is None:
        return rest
    if not isinstance(trained, dict):
        fix = "must be an object with the sizes of the GPT; put back what `vramcast gpt train` wrote, or remove the key"
        raise ModelConfigError(f"{TRAINED_KEY}.gpt", trained, fix)
    return trained


def _language_model(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The language model of a multimodal configuration and a note on what that leaves out; any other as it is."""
    inner = fields.get("text_config")
    if not isinstance(inner, dict) or fields.get("model_type") in families():
        return fields, ()
    note = f"only the language model (text_config) of {fields.get('model_type')!r} is counted, not its other towers"
    return dict(inner), (note,)


def _supported_type(fields: dict[str, Any]) -> str:
    known = ", ".join(sorted(families()))
    model_type = fields.get("model_type")
    if model_type is None:
        fix = (
            'missing; add the architecture, such as "model_type": "llama", or write n_layer, n_head, n_embd, block_size'
        )
        raise ModelConfigError("model_type", None, f"{fix}; known types: {known}")
    if not isinstance(model_type, str):
        raise ModelConfigError("model_type", model_type, f"must be a string, one of: {known}")
    if model_type not in families():
        raise ModelConfigError("model_type", model_type, f"{_why_not(fields, model_type)}: {known}")
    return model_type


def _why_not(fields: dict[str, Any], model_type: str) -> str:
    what = "an encoder-decoder" if fields.get("is_encoder_decoder") is True else why_unsupported(model_type)
    return f"is {what}; only decoder-only language models are supported" if what else "is not a known type"


def _unknown(name: str) -> UnknownModelError:
    close = close_presets(name)
    hint = f"did you mean {', '.join(close)}?" if close else f"presets: {', '.join(preset_names())}"
    return UnknownModelError("model", name, f"no preset, file or folder of that name (a Hub id is owner/name); {hint}")
