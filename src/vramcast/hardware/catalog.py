"""The GPUs of the data file, found by name, and custom ones."""

import difflib
import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any

from vramcast.errors import InputError, UnknownGPUError
from vramcast.hardware.cuda_total import cuda_total
from vramcast.hardware.gpu import GPU, ComputeCapability, architecture_of
from vramcast.units import MIB, format_gib

CUSTOM = "custom"
_CUSTOM_HELP = "or write --gpu custom --gpu-memory 24GiB"
# Far above any single device, low enough to catch bytes written where GiB were meant.
_MAX_MEMORY_BYTES = 1 << 50
# The product line, which people leave out and torch.cuda.get_device_name puts in.
_BRAND = re.compile(r"^(nvidia|amd)?(geforce|tesla|instinct)?")


@cache
def all_gpus() -> tuple[GPU, ...]:
    """Every row of the data file, in its order."""
    return tuple(_gpu(row) for row in _rows().values())


def find_gpu(name: str) -> GPU:
    """The row called `name`: canonical name, alias or device name; case, spaces and dashes do not matter.

    Raises:
        UnknownGPUError: no such row; the message names the closest ones and how to describe a card by hand.
    """
    if name in _rows():
        return _gpu(_rows()[name])
    index = _index()
    key = _key(name)
    if key in index:
        return index[key]
    if key == CUSTOM:
        raise UnknownGPUError("gpu", name, "a custom GPU needs its memory: add --gpu-memory 24GiB")
    close = difflib.get_close_matches(key, index, n=6, cutoff=0.6)
    names = list(dict.fromkeys(index[match].name for match in close))[:3]
    hint = f"closest: {', '.join(names)}" if names else "`vramcast gpus` lists the known ones"
    raise UnknownGPUError("gpu", name, f"not in the hardware file; {hint}; {_CUSTOM_HELP}")


def custom_gpu(memory_bytes: int, compute_capability: ComputeCapability = (8, 0)) -> GPU:
    """A card that is not in the data file, known by its memory.

    Args:
        memory_bytes: What CUDA offers of it, all that a job may take, context included.
        compute_capability: Decides kernels and workspaces. The default is an A100's, the oldest with bf16 and flash
            attention.

    Raises:
        InputError: memory out of range, or a compute capability that no known card has.
    """
    if not 0 < memory_bytes <= _MAX_MEMORY_BYTES:
        raise InputError(
            "gpu_memory",
            memory_bytes,
            f"must be between 1 byte and {_MAX_MEMORY_BYTES} bytes (1 PiB); write a size such as 24GiB",
        )
    major, minor = compute_capability
    return GPU(
        name=CUSTOM,
        vendor="nvidia",
        architecture=architecture_of(compute_capability),
        compute_capability=compute_capability,
        memory_total_bytes=memory_bytes,
        cuda_total_source="given by the user",
        source="given by the user",
        verified="user",
        notes=f"custom GPU of {format_gib(memory_bytes)}, taken as compute capability {major}.{minor}; speed unknown",
    )


@cache
def _rows() -> dict[str, str]:
    """Canonical name -> text of the row, which is TOML of its own: reading one is enough for one card, and all take a while."""
    text = resources.files("vramcast.hardware").joinpath("data", "gpus.toml").read_text(encoding="utf-8")
    # `name = "..."` comes first in every row.
    return {row.split('"', 2)[1]: row for row in text.split("[[gpu]]")[1:]}


@cache
def _gpu(row: str) -> GPU:
    facts: dict[str, Any] = tomllib.loads(row)
    total = cuda_total(facts, _rows_with_readings())
    for key in ("cuda_total_mib", "cuda_total_source"):
        facts.pop(key, None)
    facts.update(total.fields())
    memory = facts.pop("memory_total_mib") * MIB
    bandwidth = facts.pop("memory_bandwidth_gb_per_second") * 10**9
    return GPU(**facts, memory_total_bytes=memory, memory_bandwidth_bytes_per_second=bandwidth)


@cache
def _rows_with_readings() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(row) for row in _rows().values() if "\ncuda_total_" in row)


@cache
def _index() -> dict[str, GPU]:
    return {_key(spelling): gpu for gpu in all_gpus() for spelling in (gpu.name, *gpu.aliases)}


def _key(name: str) -> str:
    return _BRAND.sub("", re.sub(r"[^a-z0-9]", "", name.lower()))
