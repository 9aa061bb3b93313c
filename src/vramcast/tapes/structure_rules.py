"""What of a configuration changes no event: the data file, read without anything else of the package."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def rules() -> dict[str, Any]:
    """`structure.toml`: names of dropout fields, fields that change no allocation, and limits of what a tape can hold."""
    return tomllib.loads((Path(__file__).parent / "data" / "structure.toml").read_text(encoding="utf-8"))
