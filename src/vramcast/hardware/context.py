"""Memory that a CUDA (or HIP) context takes outside PyTorch's allocator."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vramcast.errors import InputError
from vramcast.hardware.gpu import GPU, ComputeCapability
from vramcast.units import MIB


@dataclass(frozen=True, slots=True)
class ContextEstimate:
    """What nvidia-smi shows of a process beyond PyTorch's reserved memory: `bytes` give or take `uncertainty_bytes`."""

    initial_bytes: int
    """Before the job launched a kernel."""
    bytes: int
    """After the first training step, when its kernels are loaded: the figure to add at the peak."""
    uncertainty_bytes: int
    source: str


def cuda_context_bytes(gpu: GPU) -> ContextEstimate:
    """Prior for the context of one process on `gpu`, from published readings; prefer a measured number.

    Assumes: lazy kernel loading (default since PyTorch 1.13 with CUDA 11.7), one process, no NCCL buffers.

    Raises:
        InputError: no entry covers the GPU's architecture and compute capability.
    """
    card = _card(gpu.architecture, gpu.compute_capability)
    if card not in _entries():
        raise InputError("gpu", gpu.name, f"no CUDA context is known for {card}; known: {', '.join(_entries())}")
    entry = _entries()[card]
    initial = entry["initial_mib"] * MIB
    return ContextEstimate(
        initial_bytes=initial,
        bytes=initial + entry["growth_mib"] * MIB,
        uncertainty_bytes=entry["uncertainty_mib"] * MIB,
        source="; ".join(entry["sources"]),
    )


def allocator_capacity_bytes(gpu: GPU) -> int:
    """What PyTorch's allocator may reserve on `gpu`: its memory without the context; not positive where the context alone fills it.

    Errors as for `cuda_context_bytes`.
    """
    return gpu.memory_total_bytes - cuda_context_bytes(gpu).bytes


def architecture_of(compute_capability: ComputeCapability) -> str:
    """Name of the NVIDIA architecture with that compute capability, such as `ampere` for (8, 6).

    Raises:
        InputError: no known card has it.
    """
    known = {
        capability: architecture
        for architecture, _, capability in (card.partition(" ") for card in _entries())
        if capability
    }
    capability = ".".join(map(str, compute_capability))
    if capability not in known:
        raise InputError(
            "compute_capability", capability, f"not one of the known ones: {', '.join(sorted(known, key=float))}"
        )
    return known[capability]


def _card(architecture: str, compute_capability: ComputeCapability | None) -> str:
    return (
        architecture
        if compute_capability is None
        else f"{architecture} {compute_capability[0]}.{compute_capability[1]}"
    )


@cache
def _entries() -> dict[str, dict[str, Any]]:
    text = resources.files("vramcast.hardware").joinpath("data", "cuda_context.toml").read_text(encoding="utf-8")
    return {card: entry for entry in tomllib.loads(text)["context"] for card in entry["cards"]}
