"""The allocator's settings in the environment, beside those of a forecast."""

from __future__ import annotations

import os

import pytest

from vramcast.allocator import AllocatorConfig
from vramcast.measure.allocator_settings import VARIABLES, differing_settings, set_allocator

EXPANDABLE = "expandable_segments:True"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_both_names_are_set_whichever_pytorch_reads_first() -> None:
    assert set_allocator(EXPANDABLE) == []
    assert [os.environ[variable] for variable in VARIABLES] == [EXPANDABLE] * 2
    assert differing_settings(AllocatorConfig(expandable_segments=True)) == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_what_the_user_had_set_is_named(variable: str) -> None:
    os.environ[variable] = "max_split_size_mb:64"
    (note,) = set_allocator(EXPANDABLE)
    assert f"{variable}=max_split_size_mb:64 is set aside" in note
    assert os.environ[variable] == EXPANDABLE


def test_settings_other_than_forecast_are_told() -> None:
    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = EXPANDABLE
    (note,) = differing_settings(AllocatorConfig())
    assert EXPANDABLE in note and "PyTorch's defaults" in note
