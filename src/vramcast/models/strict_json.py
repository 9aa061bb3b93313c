"""JSON of a model configuration, read as transformers reads it, without tolerance for what it would misread.

Python's json writes and reads `Infinity`, `-Infinity` and `NaN`, and published configurations hold them (`time_step_limit` of Mamba-2
and its kin); they are numbers here too, and refused where a size needs a whole one. The time to read grows with the length of the text.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vramcast.errors import ModelConfigError, shown

# The largest published config.json files are some hundred KiB (label tables); weights by mistake are far larger.
_MAX_BYTES = 16 << 20
# Python's own default (sys.int_info.default_max_str_digits), whatever a user set: what transformers reads where nothing is set.
_MAX_DIGITS = 4300
# Published files nest two or three deep; libraries that copy a configuration level by level stop at some hundred.
_MAX_DEPTH = 64


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        ModelConfigError: unreadable, too large, not UTF-8, not JSON, truncated, not an object, with a duplicate key or
            a number that is too long.
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
    try:
        parsed = json.loads(text, parse_int=_whole_number, object_pairs_hook=_object)
    except _Twice as error:
        raise ModelConfigError("model", origin, f"names {shown(error.key)} twice; keep one of them") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ModelConfigError(
            "model", origin, f"not valid JSON at {where} ({error.msg}); is the file complete?"
        ) from None
    except RecursionError:
        raise _too_deep(origin) from None
    except _TooLong as error:
        fix = f"is a number of {error.number.digits} digits, which nothing reads; write the number that is meant"
        raise ModelConfigError(error.key, error.number.text, f"{fix} [{origin}]") from None
    if not isinstance(parsed, dict):
        raise ModelConfigError(
            "model", origin, f"holds a JSON {_kind(parsed)}; a model configuration is an object: {{...}}"
        )
    _check_inside(parsed, origin)
    return parsed


def _too_deep(origin: str) -> ModelConfigError:
    return ModelConfigError("model", origin, f"not a model configuration: nested more than {_MAX_DEPTH} deep")


def _check_inside(parsed: dict[str, Any], origin: str) -> None:
    """Level by level, for what is nested deep cannot be walked by functions that call themselves.

    Raises:
        ModelConfigError: nested too deeply, or a number that is too long at a place that has no key of its own.
    """
    level: list[Any] = [parsed]
    for _ in range(_MAX_DEPTH):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
        if any(type(each) is _LongNumber for each in level):
            raise ModelConfigError("model", origin, f"holds a number of more than {_MAX_DIGITS} digits")
    raise _too_deep(origin)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class _Twice(Exception):
    """An object names a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key


class _LongNumber:
    """A whole number that Python's json, and so transformers, refuses to read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digits = len(text.lstrip("-"))


class _TooLong(Exception):
    """The value of a key is such a number, or a list that holds one."""

    def __init__(self, key: str, number: _LongNumber) -> None:
        self.key, self.number = key, number


def _whole_number(text: str) -> int | _LongNumber:
    number = _LongNumber(text)
    if number.digits > _MAX_DIGITS:
        return number
    try:
        return int(text)
    except ValueError:  # a user may set Python's limit lower
        return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _Twice(next(key for key, count in counts.items() if count > 1))
    for key, value in pairs:
        for item in value if type(value) is list else (value,):
            if type(item) is _LongNumber:
                raise _TooLong(key, item)
    return read


def _kind(value: object) -> str:
    kinds = {list: "list", str: "string", bool: "boolean", int: "number", float: "number", _LongNumber: "number"}
    return kinds.get(type(value), "null")
