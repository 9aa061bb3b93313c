"""The config.json of a model on the Hugging Face Hub, from the local cache where it is there."""

import os
import re
from pathlib import Path

from vramcast.errors import MissingExtraError, ModelConfigError, UnknownModelError
from vramcast.models.families import WAY
from vramcast.models.presets import close_presets

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def looks_like_hub_id(name: str) -> bool:
    """`owner/name`."""
    return bool(_HUB_ID.fullmatch(name))


def hub_offline() -> bool:
    """`HF_HUB_OFFLINE` asks for no network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def fetch_config(hub_id: str, offline: bool) -> Path:
    """Path of the model's config.json in the local cache, downloaded if it is not there and `offline` allows.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        UnknownModelError: no such model, no access, no network, or offline and not cached.
        ModelConfigError: the repository has no config.json.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError(f"asking the Hugging Face Hub for {hub_id!r}", "record") from None
    try:
        cached = huggingface_hub.try_to_load_from_cache(hub_id, "config.json")
    except errors.HFValidationError as error:
        raise UnknownModelError("model", hub_id, f"not a Hub id; {_instead(hub_id)}") from error
    if isinstance(cached, str):
        return Path(cached)
    if offline or hub_offline():
        fix = f"not a preset, not a local path, not in the Hub cache, and offline; {_instead(hub_id)}"
        raise UnknownModelError("model", hub_id, fix)
    return _download(hub_id)


def _download(hub_id: str) -> Path:
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "config.json"))
    except errors.GatedRepoError as error:
        fix = "is gated: accept its licence on the Hub and log in with `hf auth login`"
        raise UnknownModelError("model", hub_id, fix) from error
    except errors.RepositoryNotFoundError as error:
        fix = f"no such model on the Hub, or it is private; {_instead(hub_id)}"
        raise UnknownModelError("model", hub_id, fix) from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(hub_id, error) from error
    except errors.EntryNotFoundError as error:
        fix = f"its repository has no config.json, as those of adapters and of GGUF files; {_instead(hub_id)}; {WAY}"
        raise ModelConfigError("model", hub_id, fix) from error
    except Exception as error:  # Whatever the HTTP layer raises: the user needs the way out, the cause stays attached.
        raise _unreachable(hub_id, error) from error


def _unreachable(hub_id: str, error: Exception) -> UnknownModelError:
    fix = f"the Hugging Face Hub could not be asked ({type(error).__name__}); {_instead(hub_id)}"
    return UnknownModelError("model", hub_id, fix)


def _instead(hub_id: str) -> str:
    close = close_presets(hub_id)
    preset = f"a preset such as {', '.join(close)}" if close else "a preset"
    return f"use {preset}, or a path to a config.json"
