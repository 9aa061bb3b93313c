"""Bytes that an operator moves between the GPU and its memory at the least."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any, Literal

from vramcast.timeline import Operator

Moved = Literal["all", "results", "inputs", "sources", "nothing"]


def least_bytes_moved(operator: Operator) -> int:
    """Bytes of one call: inputs read once and results written once, less what the kernel does not touch.

    Assumes: every tensor travels through device memory. A tensor that is still in the GPU's L2 cache (tens of MB) when
    the next operator asks for it costs less.
    """
    if operator.kind == "view":
        return 0
    match _rules().get(operator.name, "all"):
        case "results":
            return operator.bytes_written
        case "inputs":
            return max(operator.bytes_read, operator.bytes_written)
        case "sources":
            return max(operator.bytes_read - operator.bytes_written, 0)
        case "nothing":
            return 0
        case "all":
            return operator.bytes_read + operator.bytes_written


@cache
def _rules() -> dict[str, Moved]:
    text = resources.files("vramcast.compute").joinpath("data", "traffic.toml").read_text(encoding="utf-8")
    rules: dict[str, Moved] = {}
    for rule in tomllib.loads(text)["rule"]:
        _register(rules, rule)
    return rules


def _register(rules: dict[str, Moved], rule: dict[str, Any]) -> None:
    for name in rule["operators"]:
        assert name not in rules, f"{name} has two traffic rules"
        rules[name] = rule["moved"]
