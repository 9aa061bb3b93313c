"""Memory that a CUDA (or HIP) context takes outside PyTorch's allocator, from what others read of running jobs."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import median
from typing import Any

from vramcast.errors import InputError
from vramcast.hardware.catalog import find_gpu
from vramcast.hardware.gpu import GPU, ComputeCapability
from vramcast.units import MIB

_ROUNDING_MIB = 15
"""A reading is a difference of three figures printed to 0.01 GiB."""
_ENOUGH_READINGS = 3
"""Cards with as many tell how far jobs differ."""


@dataclass(frozen=True, slots=True)
class ContextEstimate:
    """What nvidia-smi shows of a process beyond PyTorch's reserved memory: `low_bytes` <= `bytes` <= `high_bytes`."""

    initial_bytes: int
    """Before the job launched a kernel; the low end where nobody read it."""
    bytes: int
    """Of a running job, when its kernels are loaded: the figure to add at the peak."""
    low_bytes: int
    high_bytes: int
    source: str

    @property
    def uncertainty_bytes(self) -> int:
        """The farther end of the band."""
        return max(self.high_bytes - self.bytes, self.bytes - self.low_bytes)


@dataclass(frozen=True, slots=True)
class _Card:
    """One row of the data file, in MiB."""

    names: tuple[str, ...]
    vendor: str
    architecture: str
    capability: ComputeCapability | None
    multiprocessors: int
    job: tuple[int, ...]
    bare: int | None
    seen: tuple[int, ...]
    """Of jobs that are not usual; see the data file."""
    source: str
    spread: tuple[float, float]
    """See `_spread`, over the cards of its vendor."""

    @property
    def usual(self) -> float:
        return median(self.job)

    @property
    def low(self) -> float:
        return max(min(*self.job, self.usual * self.spread[0]) - _ROUNDING_MIB, 0)

    @property
    def high(self) -> float:
        return max(*self.job, self.usual * self.spread[1]) + _ROUNDING_MIB

    @property
    def highest(self) -> float:
        return max([self.high, *(mib + _ROUNDING_MIB for mib in self.seen)])


def cuda_context_bytes(gpu: GPU) -> ContextEstimate:
    """The context of one process on `gpu`, from published readings; prefer a measured number.

    A card that was read: the best estimate is the median; the band holds every reading, reaches as far from the median as jobs do on
    the cards that were read often, and has the rounding on both sides; what was seen of an unusual job moves the high end. Another
    card: see `_estimated`.

    Assumes: lazy kernel loading (default since PyTorch 1.13 with CUDA 11.7), one process, no NCCL buffers.

    Raises:
        InputError: nothing is known of cards of this vendor and architecture.
    """
    own = next((card for card in _cards() if gpu.name in card.names), None)
    low, best, high = _estimated(gpu) if own is None else (own.low, own.usual, own.highest)
    bare = low if own is None or own.bare is None else own.bare
    if own is None:
        names = ", ".join(name for card in _bracket(gpu) for name in card.names)
        source = f"no reading of this card; from those of {names}"
    else:
        source = own.source
    return ContextEstimate(
        initial_bytes=round(bare) * MIB,
        bytes=round(best) * MIB,
        low_bytes=round(low) * MIB,
        high_bytes=round(high) * MIB,
        source=source,
    )


def allocator_capacity_bytes(gpu: GPU) -> int:
    """What PyTorch's allocator may reserve on `gpu`: what CUDA offers without the context; not positive where that alone fills it.

    Errors as for `cuda_context_bytes`.
    """
    return gpu.cuda_total_bytes - cuda_context_bytes(gpu).bytes


def _estimated(gpu: GPU) -> tuple[float, float, float]:
    """Low end, best estimate and high end in MiB of a card that nobody read.

    A context grows with the multiprocessors, for each has stacks for its resident threads, and not faster than them, for the rest does
    not grow: so it lies between those of the read cards with fewer and with more of them. Where all have more, the low end is theirs
    by the share of multiprocessors, where all have fewer the high end is. The best estimate is the usual figure of the nearest card
    where there are some on both sides, else the middle of the band. A custom card, whose number is unknown, has the band of all.
    """
    cards = _bracket(gpu)
    low, high = min(card.low for card in cards), max(card.high for card in cards)
    count = gpu.multiprocessor_count
    if count is None:
        return low, median(mib for card in cards for mib in card.job), high
    fewest, most = min(card.multiprocessors for card in cards), max(card.multiprocessors for card in cards)
    low, high = low * min(count / fewest, 1), high * max(count / most, 1)
    if not fewest <= count <= most:
        return low, (low + high) / 2, high
    distance = min(abs(card.multiprocessors - count) for card in cards)
    nearest = [card for card in cards if abs(card.multiprocessors - count) == distance]
    return low, median(mib for card in nearest for mib in card.job), high


def _bracket(gpu: GPU) -> list[_Card]:
    """The read cards most like `gpu`: of its compute capability, else of its architecture, else of another one of AMD's.

    Of these the next in multiprocessors on both sides, all where the card's number is unknown.
    """
    count, capability = gpu.multiprocessor_count, gpu.compute_capability
    likenesses = (
        [card for card in _cards() if card.capability == capability is not None],
        [card for card in _cards() if card.architecture == gpu.architecture],
        [card for card in _cards() if card.vendor == gpu.vendor == "amd"],
    )
    cards = next((alike for alike in likenesses if alike), [])
    if not cards:
        known = ", ".join(dict.fromkeys(card.architecture for card in _cards()))
        text = gpu.architecture if capability is None else f"{gpu.architecture} {'.'.join(map(str, capability))}"
        raise InputError("gpu", gpu.name, f"no CUDA context is known for {text}; known: {known}")
    if count is None:
        return cards
    below = max((card.multiprocessors for card in cards if card.multiprocessors <= count), default=None)
    above = min((card.multiprocessors for card in cards if card.multiprocessors >= count), default=None)
    return [card for card in cards if card.multiprocessors in (below, above)]


@cache
def _cards() -> tuple[_Card, ...]:
    text = resources.files("vramcast.hardware").joinpath("data", "cuda_context.toml").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["reading"]
    gpus = [find_gpu(row["gpus"][0]) for row in rows]
    spreads = {
        vendor: _spread([row["job_mib"] for row, gpu in zip(rows, gpus, strict=True) if gpu.vendor == vendor])
        for vendor in {gpu.vendor for gpu in gpus}
    }
    return tuple(
        _Card(
            names=tuple(row["gpus"]),
            vendor=gpu.vendor,
            architecture=gpu.architecture,
            capability=gpu.compute_capability,
            multiprocessors=gpu.multiprocessor_count or 0,
            job=tuple(row["job_mib"]),
            bare=row.get("bare_mib"),
            seen=tuple(row.get("seen_mib", ())),
            source=row["source"],
            spread=spreads[gpu.vendor],
        )
        for row, gpu in zip(rows, gpus, strict=True)
    )


def _spread(jobs: list[list[int]]) -> tuple[float, float]:
    """How far jobs lie from the median of their card, as factors: the farthest below and above, of the cards that were read often."""
    often = [job for job in jobs if len(job) >= _ENOUGH_READINGS]
    return min(min(job) / median(job) for job in often), max(max(job) / median(job) for job in often)
