"""Answers are frozen, and described by the docstrings of their fields."""

import pytest
from pydantic import ValidationError

from vramcast.forecast import Forecast
from vramcast.result import Result, attribute_docstrings


class Part(Result):
    """A part."""

    bytes: int
    """At the least."""


class Whole(Result):
    """A whole."""

    parts: tuple[Part, ...] = ()
    """First line,
    and a second one.
    """
    name: str = "whole"
    total: int


def test_docstrings_of_fields() -> None:
    assert attribute_docstrings(Whole) == {"parts": "First line,\nand a second one."}


def test_schema_describes_every_documented_field() -> None:
    schema = Whole.model_json_schema()
    assert schema["properties"]["parts"]["description"] == "First line,\nand a second one."
    assert "description" not in schema["properties"]["total"]
    assert schema["$defs"]["Part"]["properties"]["bytes"]["description"] == "At the least."
    peak = Forecast.model_json_schema()["properties"]["peak_reserved_bytes"]
    assert peak["description"] == "Comparable with `torch.cuda.max_memory_reserved()`."


def test_an_answer_does_not_change_and_has_no_other_fields() -> None:
    whole = Whole(total=1, parts=(Part(bytes=2),))
    with pytest.raises(ValidationError):
        whole.total = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Whole(total=1, sum=2)  # type: ignore[call-arg]
