"""Memory that NCCL's communicators take on each GPU, outside PyTorch's allocator."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import median
from typing import Any, Literal

from vramcast.errors import InputError
from vramcast.hardware.catalog import find_gpu
from vramcast.hardware.context import cuda_context_bytes
from vramcast.hardware.gpu import GPU
from vramcast.units import MIB

_NODE = 8
"""GPUs of one machine: a communicator connects to these directly, and to other machines over the network."""
_CHANNELS = 32
"""What an all-to-all connects for each pair of GPUs on NVLink."""
_FEWEST_CHANNELS = 2
"""What a ring needs at least."""
_CONNECTION_MIB = 10 + 2
"""A channel to one peer: a receive buffer of 10 MiB (4 MiB `NCCL_BUFFSIZE`, and those of the protocols LL and LL128) and a send buffer in
a page of 2 MiB."""
_NVLS_CHANNELS, _NVLS_BUFFER_MIB = 16, 1
"""NVLink SHARP: 8 steps of 128 KiB for each channel, both ways, for each GPU of the machine; not with two GPUs."""
_NETWORK_MIB = 512
"""Shared buffer for peers on other machines."""
_PAIR = 2

Links = Literal["switch", "links", "bus"]
"""How the GPUs of a machine reach each other: NVLink with SHARP (data centre cards from Hopper on), NVLink or Infinity Fabric without
it, or PCIe, which a custom card is taken to have."""


@dataclass(frozen=True, slots=True)
class NcclEstimate:
    """What one process's communicators hold on its GPU: between `low_bytes` and `high_bytes`, `bytes` the best estimate."""

    bytes: int
    low_bytes: int
    high_bytes: int
    source: str


def nccl_bytes(gpu: GPU, world_size: int) -> NcclEstimate:
    """For a job of `world_size` processes, one GPU each; nothing for a single process.

    NCCL allocates when a communicator first talks: a channel to a peer takes 12 MiB, and how many channels and peers there are depends
    on what is called, on the links and on the release. So the low end is a ring of two channels (on Hopper and Blackwell data centre
    cards, a communicator that was read before its first all-to-all), the high end the largest reading or, where NVLink gives every
    pair of GPUs all channels, an all-to-all beside a communicator for everything else, if that is more. The best estimate is the
    median of the jobs that were read; of two GPUs with NVLink, the communicator. On Hopper and Blackwell, read with eight GPUs only,
    that sum brings them to fewer. Several process groups each have a communicator, which the readings hold as their jobs had them;
    buffers of libraries for expert parallelism are not in it.

    Sources: NCCL's `src/transport/nvls.cc` and `src/transport/p2p.cc`; allocations counted in
    https://github.com/NVIDIA/nccl/issues/1685 (10 485 760 and 2 097 152 bytes, 32 channels per pair) and
    https://github.com/NVIDIA/nccl/issues/2363 (512 MiB for the network); readings in data/nccl.toml.

    Raises:
        InputError: a world of less than one process, or a card of whose context nothing is known.
    """
    if world_size < 1:
        raise InputError("world_size", world_size, "a job has at least one process; write 1 or more")
    if world_size == 1:
        return NcclEstimate(0, 0, 0, "one process, no communicator")
    links, local = _links(gpu), min(world_size, _NODE)
    jobs = [row for row in _rows("job") if _links(find_gpu(row["gpu"])) == links]
    communicators = [row for row in _rows("communicator") if _links(find_gpu(row["gpu"])) == links]
    taken = [_nccl_mib(row) for row in jobs]
    if links == "switch":
        share = _all_to_all_mib(local, links) / _all_to_all_mib(_NODE, links)
        low, best = min(_nccl_mib(row) for row in communicators) * share, median(taken) * share
        high = max(max(taken) * share, _all_to_all_mib(local, links))
    else:
        low = float(_FEWEST_CHANNELS * _CONNECTION_MIB)
        best = median(taken)
        high = max(_nccl_mib(row) for row in _rows("job") if _links(find_gpu(row["gpu"])) != "switch")
        if links == "links":
            best = float(_communicator_mib(local)) if local == _PAIR else best
            high = max(high, _all_to_all_mib(local, links))
    if world_size > _NODE:
        high += _NETWORK_MIB
    told = "; ".join(dict.fromkeys(row["source"] for row in (*jobs, *communicators)))
    source = f"readings: {told}" if gpu.vendor == "nvidia" else f"no reading of RCCL, taken as NCCL: {told}"
    return NcclEstimate(round(best) * MIB, round(low) * MIB, round(high) * MIB, source)


def _all_to_all_mib(gpus: int, links: Links) -> int:
    """A communicator of `gpus` GPUs of one machine, and an all-to-all of them, with every channel there may be."""
    nvls = 2 * _NVLS_CHANNELS * _NVLS_BUFFER_MIB * gpus if links == "switch" and gpus > _PAIR else 0
    return _CHANNELS * _CONNECTION_MIB * (gpus - 1) + _communicator_mib(gpus) + nvls


def _communicator_mib(gpus: int) -> int:
    """What a communicator takes for rings and trees, as read on A100s: the largest reading of at most so many GPUs."""
    return max(int(row["nccl_mib"]) for row in _rows("communicator") if "nccl_mib" in row and row["world_size"] <= gpus)


def _nccl_mib(row: dict[str, Any]) -> float:
    if "nccl_mib" in row:
        return float(row["nccl_mib"])
    return float(row["outside_mib"]) - cuda_context_bytes(find_gpu(row["gpu"])).bytes / MIB


def _links(gpu: GPU) -> Links:
    if not gpu.interconnect.startswith(("NVLink", "Infinity")):
        return "bus"
    return "switch" if gpu.architecture in ("hopper", "blackwell") else "links"


@cache
def _rows(kind: str) -> list[dict[str, Any]]:
    text = resources.files("vramcast.hardware").joinpath("data", "nccl.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)[kind]
    return rows
