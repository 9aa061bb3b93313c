"""Workspaces by GPU and PyTorch release."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import InputError
from vramcast.hardware import all_gpus, cublas_workspace_bytes, parse_workspace_config
from vramcast.units import KIB, MIB

SMALL = 8_519_680
LARGE = 32 * MIB


@pytest.mark.parametrize(
    ("capability", "version", "size"),
    [
        ((8, 0), "2.0.0", SMALL),
        ((9, 0), "2.0.0", LARGE),
        ((10, 0), "2.8.0", SMALL),
        ((9, 0), "2.10.1", LARGE),
        ((12, 0), "2.10.1", SMALL),
        ((7, 0), "2.13.0", SMALL),
        ((8, 9), "2.13.0+cu130", SMALL),
        ((9, 0), "2.13.0+cpu", LARGE),
        ((10, 0), "2.11.0", LARGE),
        ((10, 3), "2.13.0", LARGE),
        ((12, 0), "2.13.0", LARGE),
        ((11, 0), "2.13.0", SMALL),
        ((11, 0), "2.14.0", LARGE),
        ((8, 0), "2.14.0.dev20260901+cu130", SMALL),
        ((8, 0), "3.0.0", SMALL),
    ],
)
def test_default_size(capability: tuple[int, int], version: str, size: int) -> None:
    assert cublas_workspace_bytes(capability, version).workspace_bytes == size


@pytest.mark.parametrize(
    ("version", "persistent", "lt_bytes", "lt_persistent"),
    [
        ("2.0.1", True, MIB, False),
        ("2.8.0", True, MIB, False),
        ("2.9.0", True, MIB, True),
        ("2.10.0", True, MIB, True),
        ("2.11.0", True, 0, False),
        ("2.13.0", True, 0, False),
        ("2.14.0", False, MIB, False),
    ],
)
def test_policy_of_a_release(version: str, persistent: bool, lt_bytes: int, lt_persistent: bool) -> None:
    workspace = cublas_workspace_bytes((8, 0), version)
    assert (workspace.persistent, workspace.lt_workspace_bytes, workspace.lt_persistent) == (
        persistent,
        lt_bytes,
        lt_persistent,
    )
    assert workspace.source.startswith("https://github.com/pytorch/pytorch/pull/")


def test_switches_of_the_environment() -> None:
    separate = cublas_workspace_bytes((8, 0), "2.13.0", unified=False)
    assert (separate.lt_workspace_bytes, separate.lt_persistent) == (MIB, True)
    cached = cublas_workspace_bytes((8, 0), "2.14.0", cached=True)
    assert (cached.persistent, cached.lt_persistent) == (True, True)
    assert cublas_workspace_bytes((8, 0), "2.8.0", lt_workspace_kib=4096).lt_workspace_bytes == 4 * MIB
    assert cublas_workspace_bytes((8, 0), "2.13.0", lt_workspace_kib=4096).lt_workspace_bytes == 0
    assert cublas_workspace_bytes((9, 0), "2.13.0", workspace_config=":16:8").workspace_bytes == 128 * KIB


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [(":4096:2:16:8", SMALL), (":4096:8", LARGE), (":16:8", 128 * KIB), (":0:0", 0)],
)
def test_workspace_config(text: str, nbytes: int) -> None:
    assert parse_workspace_config(text) == nbytes


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 64)), min_size=1, max_size=5))
def test_workspace_config_sums_its_pairs(pairs: list[tuple[int, int]]) -> None:
    text = "".join(f":{kib}:{count}" for kib, count in pairs)
    assert parse_workspace_config(text) == sum(kib * KIB * count for kib, count in pairs)


@pytest.mark.parametrize("text", ["", "4096:8", ":4096", ":4096:8:", ":a:8", ":-1:8", ":4096:8 "])
def test_unreadable_workspace_config(text: str) -> None:
    with pytest.raises(InputError, match=r"CUBLAS_WORKSPACE_CONFIG=.*:4096:8"):
        parse_workspace_config(text)


@pytest.mark.parametrize("version", ["", "nightly", "1.13.1", "v2.13"])
def test_unknown_release(version: str) -> None:
    with pytest.raises(InputError, match=r"torch_version="):
        cublas_workspace_bytes((8, 0), version)


def test_hopper_alone_is_large_before_blackwell_support() -> None:
    large = {
        gpu.architecture
        for gpu in all_gpus()
        if gpu.compute_capability and cublas_workspace_bytes(gpu.compute_capability, "2.8.0").workspace_bytes == LARGE
    }
    assert large == {"hopper"}
