"""The base of what vramcast answers with: checked, frozen, and described by the docstrings of its fields."""

import ast
import inspect
from itertools import pairwise
from textwrap import dedent
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Result(BaseModel):
    """A model whose fields are documented where they are defined.

    The docstrings become descriptions when a JSON schema is asked for. Pydantic's `use_attribute_docstrings` would read the source
    of every class at import, and its validators are built at first use for the same reason: the command line answers sooner.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name, text in attribute_docstrings(cls).items():
            if name in schema.get("properties", {}):
                schema["properties"][name].setdefault("description", text)
        return schema


def attribute_docstrings(kind: type) -> dict[str, str]:
    """Attribute -> the string literal below its annotation in the body of the class; those of bases are left out.

    Raises:
        OSError: the source of the class is not there.
    """
    (definition,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value) if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = inspect.cleandoc(text)
    return found
