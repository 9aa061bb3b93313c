"""Published workloads rewritten for the virtual GPU; every module of this folder may have a `WORKLOADS` table."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from validation.workloads.result import WorkloadResult

Workload = Callable[[dict[str, Any]], WorkloadResult]
"""Takes one row of `measured.jsonl` (its `value_bytes` must not be read) and forecasts it."""


def discover() -> dict[str, Workload]:
    """Row id -> workload, from the `WORKLOADS` of every module in this folder.

    Raises:
        ValueError: two modules claim the same row.
    """
    found: dict[str, Workload] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        table = getattr(import_module(f"{__name__}.{module.name}"), "WORKLOADS", {})
        doubles = found.keys() & table.keys()
        if doubles:
            raise ValueError(f"{module.name} claims rows that another module has too: {', '.join(sorted(doubles))}")
        found.update(table)
    return found
