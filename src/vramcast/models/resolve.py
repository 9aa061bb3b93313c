"""From what the user wrote for MODEL to a checked `ModelConfig`."""

import os
from functools import cache
from pathlib import Path

from vramcast.errors import InputError, ModelConfigError, UnknownModelError
from vramcast.models.config import ModelConfig
from vramcast.models.hub import fetch_config, looks_like_hub_id
from vramcast.models.presets import OWN_KEY, close_presets, find_preset, preset_text
from vramcast.models.quantization import check_files_beside
from vramcast.models.reading import model_from_fields
from vramcast.models.strict_json import parse_object, read_object

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
"""What PEFT writes beside the weights of an adapter."""


def load_model(
    name_or_path: str | os.PathLike[str],
    offline: bool = False,
    *,
    ignore_quantization: bool = False,
    field: str = "model",
) -> ModelConfig:
    """The architecture called `name_or_path`.

    Looked for in this order: a preset or its alias, a `config.json` or a folder that holds one, a Hub id
    (`owner/name`). The Hub is never asked with `offline` or `HF_HUB_OFFLINE=1`; its local cache is read even then.

    Args:
        name_or_path: what the user wrote.
        offline: never ask the Hub.
        ignore_quantization: read quantised weights as the unquantised model's, and say so in its assumptions.
        field: what the user knows `name_or_path` by, for messages.

    Raises:
        UnknownModelError: nothing of that name; names close presets.
        ModelConfigError: found, but not usable; names field, value and fix.
        MissingExtraError: only the Hub could know it, and huggingface_hub is not installed.
    """
    try:
        return _loaded(os.fspath(name_or_path), offline, ignore_quantization)
    except InputError as error:
        if error.field != "model" or field == "model":
            raise
        raise type(error)(field, error.value, error.fix) from error.__cause__


def _loaded(name: str, offline: bool, ignore_quantization: bool) -> ModelConfig:
    preset = find_preset(name)
    if preset is not None:
        return _from_preset(preset)
    path = _existing_path(name)
    if path is not None:
        return _from_path(path, ignore_quantization)
    if looks_like_hub_id(name) and not name.endswith(".json"):
        return model_from_fields(
            read_object(fetch_config(name, offline)),
            name=name,
            source="hub",
            origin=f"https://huggingface.co/{name}",
            ignore_quantization=ignore_quantization,
        )
    raise _unknown(name)


@cache
def _from_preset(name: str) -> ModelConfig:
    fields = parse_object(preset_text(name), f"preset {name}")
    return model_from_fields(fields, name=name, source="preset", origin=fields[OWN_KEY]["source"])


def _from_path(path: Path, ignore_quantization: bool) -> ModelConfig:
    config = path / CONFIG if path.is_dir() else path
    if path.is_dir() and not config.is_file():
        config = path / ADAPTER_CONFIG
        if not config.is_file():
            fix = "this folder has no config.json; give a folder that has one, or the file itself"
            raise ModelConfigError("model", str(path), fix)
    name = config.resolve().parent.name if config.name in (CONFIG, ADAPTER_CONFIG) else config.stem
    model = model_from_fields(
        read_object(config), name=name, source="file", origin=str(config), ignore_quantization=ignore_quantization
    )
    return model.model_copy(update={"assumptions": (*model.assumptions, *_notes_beside(config, ignore_quantization))})


def _notes_beside(config: Path, ignore_quantization: bool) -> tuple[str, ...]:
    """On files beside a config.json that tell of other memory than it does.

    Raises:
        ModelConfigError: one tells of quantised weights.
    """
    if config.name != CONFIG:
        return ()
    notes = check_files_beside(config, ignore_quantization)
    if config.with_name(ADAPTER_CONFIG).is_file():
        return (*notes, f"the adapter beside it ({ADAPTER_CONFIG}) is not counted")
    return notes


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


def _unknown(name: str) -> UnknownModelError:
    close = close_presets(name)
    hint = f"did you mean {', '.join(close)}?" if close else "`vramcast models` lists the presets"
    return UnknownModelError("model", name, f"no preset, file or folder of that name (a Hub id is owner/name); {hint}")
