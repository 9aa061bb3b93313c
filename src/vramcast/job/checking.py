"""Job fields checked with our own messages: the field as the user knows it, its value, and the fix."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vramcast.errors import InputError

Job = TypeVar("Job", bound=BaseModel)


def checked_job(kind: type[Job], fields: dict[str, Any]) -> Job:
    """A job of `kind` from plain fields.

    Raises:
        InputError: an unknown field, a wrong type or a value out of range; names the first one.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        raise _input_error(kind, error.errors()[0]) from None


def _input_error(kind: type[BaseModel], detail: ErrorDetails) -> InputError:
    field = str(detail["loc"][0])
    value = detail.get("input")
    if detail["type"] == "extra_forbidden":
        return InputError(field, value, f"no such field; choose from {', '.join(kind.model_fields)}")
    return InputError(field, value, explained_detail(detail))


def explained_detail(detail: ErrorDetails) -> str:
    """What to write instead of a value that pydantic refused."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "literal_error":
            known = f"choose one of {context['expected'].replace(chr(39), '')}"
            return known + _ANY_OPTIMIZER if detail["loc"][0] == "optimizer" else known
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "greater_than":
            return f"must be greater than {context['gt']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "less_than":
            return f"must be less than {context['lt']}"
        case "int_parsing" | "int_parsing_size" | "int_type" | "int_from_float":
            return "write a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "write a number"
        case "bool_parsing" | "bool_type":
            return "write true or false"
    return detail["msg"].removeprefix("Value error, ")


_ANY_OPTIMIZER = "; `vramcast run --gpu NAME your_script.py` follows a script with any other"
