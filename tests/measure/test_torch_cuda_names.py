"""What is called on a real card, held against the texts of the installed torch: no CUDA is needed to read them."""

from __future__ import annotations

import inspect
import re
from itertools import product

import pytest
import torch

from vramcast.measure import memory_history
from vramcast.measure.allocator_readings import _MEMORY, _STATISTICS


def documented_statistics() -> set[str]:
    """Every key that the docstring of `torch.cuda.memory_stats` spells out; `{a,b}` stands for several."""
    keys = set()
    for pattern in re.findall(r'``"([^"]+)"``', inspect.getdoc(torch.cuda.memory_stats) or ""):
        parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
        keys |= {"".join(choice) for choice in product(*parts)}
    return keys


@pytest.mark.parametrize("name", _STATISTICS)
def test_every_statistic_is_documented(name: str) -> None:
    # The docstring says `allocated` for the count of allocations, whose key is `allocation` (`torch/csrc/cuda/Module.cpp`).
    assert re.sub(r"^allocation\.", "allocated.", name) in documented_statistics()


@pytest.mark.parametrize("function", _MEMORY.values())
def test_readings_are_of_the_current_device(function: str) -> None:
    assert inspect.signature(getattr(torch.cuda, function)).parameters["device"].default is None


def test_the_history_is_asked_for_in_torchs_words(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    asked = inspect.signature(torch.cuda.memory._record_memory_history)
    kept = asked.bind(context=None, stacks="python", max_entries=memory_history.MAX_ENTRIES)
    kept.apply_defaults()
    assert kept.arguments["enabled"] == "all"
    asked.bind(enabled=None)
    inspect.signature(torch.cuda.memory._dump_snapshot).bind("run.pickle")
