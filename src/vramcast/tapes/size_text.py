"""A size of a tape as text: its formula in letters, or with the numbers put in."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vramcast.tapes.expressions import Expression
from vramcast.tapes.tape import Size

_LETTER = re.compile(r"up\d+|[A-Za-z]")


def size_text(size: Size) -> str:
    """`4·B·T²·H`; of a buffer inside a kernel the rule that tells its size, `flash_attention_backward scratch 1`."""
    return str(size) if isinstance(size, Expression) else f"{size.rule} scratch {size.buffer}"


def numbers_text(size: Size, values: Mapping[str, int]) -> str:
    """`4·8·1024²·12`; empty where the size has no letters."""
    if not isinstance(size, Expression) or not size.atoms:
        return ""
    return _LETTER.sub(lambda match: str(values.get(match[0], match[0])), str(size))


def letters_of(size: Size) -> set[str]:
    """The letters a size is written with."""
    if isinstance(size, Expression):
        expressions = [size]
    else:
        expressions = [expression for _, several in size.arguments for expression in several]
    found = (match for expression in expressions for match in _LETTER.findall(" ".join(expression.atoms)))
    return {match for match in found if len(match) == 1}
