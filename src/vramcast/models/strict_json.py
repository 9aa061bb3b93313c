"""JSON of a model configuration, read without tolerance for what transformers would misread."""

import json
from pathlib import Path
from typing import Any, NoReturn

from vramcast.errors import ModelConfigError

# The largest published config.json files are some hundred KiB (label tables); weights by mistake are far larger.
_MAX_BYTES = 16 << 20


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        ModelConfigError: unreadable, too large, not UTF-8, not JSON, truncated, not an object, with a duplicate key,
            with NaN or Infinity.
    """
    try:
        if not path.is_file():
            raise ModelConfigError("model", str(path), "not a regular file; give a config.json")
        if path.stat().st_size > _MAX_BYTES:
            raise ModelConfigError(
                "model", str(path), f"larger than {_MAX_BYTES >> 20} MiB; give a config.json, not weights"
            )
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ModelConfigError("model", str(path), "not a text file in UTF-8; give a config.json") from None
    except OSError as error:
        raise ModelConfigError(
            "model", str(path), f"cannot be read ({error.strerror}); check path and permissions"
        ) from error
    return parse_object(text, str(path))


def parse_object(text: str, origin: str) -> dict[str, Any]:
    """The JSON object in `text`; `origin` names it in messages.

    Raises:
        ModelConfigError: as `read_object`.
    """

    def no_constant(name: str) -> NoReturn:
        raise ModelConfigError("model", origin, f"holds {name}, which is not JSON; write a finite number")

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ModelConfigError("model", origin, f"names {twice[0]!r} twice; keep one of them")
        return dict(pairs)

    try:
        parsed = json.loads(text, parse_constant=no_constant, object_pairs_hook=no_duplicates)
    except ModelConfigError:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ModelConfigError(
            "model", origin, f"not valid JSON at {where} ({error.msg}); is the file complete?"
        ) from None
    except (RecursionError, ValueError):
        raise ModelConfigError(
            "model", origin, "not a model configuration: nested too deeply or a number too long"
        ) from None
    if not isinstance(parsed, dict):
        raise ModelConfigError(
            "model", origin, f"holds a JSON {_kind(parsed)}; a model configuration is an object: {{...}}"
        )
    return parsed


def _kind(value: object) -> str:
    kinds = {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")
