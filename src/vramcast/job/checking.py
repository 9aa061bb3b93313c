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
    return InputError(field, value, _fix(detail))


def _fix(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "literal_error":
            return f"choose one of {context['expected'].replace(chr(39), '')}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "greater_than":
            return f"must be greater than {context['gt']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "less_than":
            return f"must be less than {context['lt']}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "write a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "write a number"
    return detail["msg"]


def input_error_of(error: Exception) -> Exception:
    """The error behind a command-line parser's error: our own message where a field's value was refused, else the parser's."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ValidationError):
        detail = cause.errors()[0]
        field = "--" + str(detail["loc"][0]).replace("_", "-")
        return InputError("MODEL" if field == "--model" else field, detail.get("input"), _fix(detail))
    return error
