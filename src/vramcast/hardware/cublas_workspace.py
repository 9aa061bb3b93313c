"""Workspaces that PyTorch allocates for cuBLAS and cuBLASLt, through the caching allocator, by GPU and release."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vramcast.errors import InputError
from vramcast.hardware.gpu import ComputeCapability
from vramcast.units import KIB

# 2 x 4096 KiB + 8 x 16 KiB and 8 x 4096 KiB: cuBLAS's own defaults, which PyTorch asks for by name.
_SMALL_BYTES = (2 * 4096 + 8 * 16) * KIB
_LARGE_BYTES = 8 * 4096 * KIB
_LT_DEFAULT_KIB = 1024

_CONFIG = re.compile(r"(?::\d+:\d+)+")
_CONFIG_PAIR = re.compile(r":(\d+):(\d+)")
_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class CublasWorkspace:
    """What a matrix product asks the allocator for besides its output.

    "Persistent" means one block for each (handle, stream), allocated at its first use and kept, even by `empty_cache`.
    Handles belong to threads, and backward of CUDA tensors runs on a thread of its own, so training on one stream holds
    two blocks and inference one.
    """

    workspace_bytes: int
    """Block for cuBLAS calls."""
    persistent: bool
    """False: allocated before and freed after every cuBLAS call."""
    lt_workspace_bytes: int
    """Further block for a cuBLASLt call (`addmm` with a 1-D bias); 0 where it shares the cuBLAS block."""
    lt_persistent: bool
    """False: allocated before and freed after every cuBLASLt call (or there is none)."""
    source: str


def cublas_workspace_bytes(
    compute_capability: ComputeCapability,
    torch_version: str,
    *,
    workspace_config: str | None = None,
    lt_workspace_kib: int | None = None,
    unified: bool | None = None,
    cached: bool | None = None,
) -> CublasWorkspace:
    """Workspace policy of a PyTorch release on an NVIDIA GPU.

    8 519 680 bytes, or 32 MiB on Hopper (from 2.11 also on Blackwell). The same for fp32, tf32 and half precision.

    Args:
        compute_capability: (major, minor) of the GPU.
        torch_version: Such as `2.13.0+cu130`; 2.0 is the oldest.
        workspace_config: Value of `CUBLAS_WORKSPACE_CONFIG`, which wins over the default size.
        lt_workspace_kib: Value of `CUBLASLT_WORKSPACE_SIZE`, KiB; no effect on a unified workspace.
        unified: `TORCH_CUBLASLT_UNIFIED_WORKSPACE`: does cuBLASLt use the cuBLAS block; None is the release's default.
        cached: `TORCH_CUBLAS_WORKSPACE_CACHE`: True keeps the blocks that a release would free after every call.

    Source: aten/src/ATen/cuda/CublasHandlePool.cpp; pull requests for each release in data/cublas_workspaces.toml.

    Raises:
        InputError: an unreadable version, one before 2.0, or an unreadable workspace configuration.
    """
    policy = _policy(torch_version)
    default = _LARGE_BYTES if _is_large(policy, compute_capability) else _SMALL_BYTES
    persistent = policy["cublas"] == "persistent" or cached is True
    shares_block = policy["lt"] == "unified" if unified is None else unified
    lt_kib = _LT_DEFAULT_KIB if lt_workspace_kib is None else lt_workspace_kib
    return CublasWorkspace(
        workspace_bytes=default if workspace_config is None else parse_workspace_config(workspace_config),
        persistent=persistent,
        lt_workspace_bytes=0 if shares_block else lt_kib * KIB,
        lt_persistent=not shares_block and (policy["lt"] != "temporary" or cached is True),
        source="; ".join(policy["sources"]),
    )


def parse_workspace_config(text: str) -> int:
    """Bytes of `CUBLAS_WORKSPACE_CONFIG`: pairs `:KIB:COUNT`, so `:4096:2:16:8` is 2 x 4 MiB + 8 x 16 KiB.

    Raises:
        InputError: not a sequence of such pairs.
    """
    if not _CONFIG.fullmatch(text):
        raise InputError(
            "CUBLAS_WORKSPACE_CONFIG", text, "write pairs of size in KiB and count, such as :4096:8 or :4096:2:16:8"
        )
    return sum(int(kib) * int(count) * KIB for kib, count in _CONFIG_PAIR.findall(text))


def _is_large(policy: dict[str, Any], compute_capability: ComputeCapability) -> bool:
    major, minor = compute_capability
    return f"{major}.{minor}" in policy["large_on"] or str(major) in policy["large_on"]


def torch_release(torch_version: str) -> tuple[int, int]:
    """(2, 13) of `2.13.0+cu130`.

    Raises:
        InputError: unreadable.
    """
    match = _VERSION.match(torch_version)
    if not match:
        raise InputError("torch_version", torch_version, "write a PyTorch version such as 2.13.0")
    major, minor = match.groups()
    return int(major), int(minor)


def _policy(torch_version: str) -> dict[str, Any]:
    version = list(torch_release(torch_version))
    policies = [policy for policy in _policies() if policy["since"] <= version]
    if not policies:
        raise InputError("torch_version", torch_version, "PyTorch 2.0 is the oldest release whose workspaces are known")
    return policies[-1]


@cache
def _policies() -> list[dict[str, Any]]:
    text = resources.files("vramcast.hardware").joinpath("data", "cublas_workspaces.toml").read_text(encoding="utf-8")
    policies: list[dict[str, Any]] = tomllib.loads(text)["policy"]
    return policies
