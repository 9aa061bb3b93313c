"""What one card has room for: the only place that a verdict comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from vramcast.errors import InputError
from vramcast.forecast.uncertainty import Interval, JobKind, Spread, Uncertainty, interval, merged, spread_of
from vramcast.hardware import GPU, ContextEstimate, NcclEstimate, cuda_context_bytes, nccl_bytes
from vramcast.units import parse_bytes

Verdict = Literal["fits", "tight", "does_not_fit", "unknown"]
_PERCENT = 100


class Peaks(Protocol):
    """What a verdict looks at."""

    @property
    def peak_reserved_bytes(self) -> int:
        """Comparable with `torch.cuda.max_memory_reserved()`."""

    @property
    def num_alloc_retries(self) -> int:
        """How often cached memory was given back to stay within a capacity."""

    @property
    def out_of_memory(self) -> bool:
        """A capacity was given and the job does not run within it."""


AnyPeaks = TypeVar("AnyPeaks", bound=Peaks)


class Placement(NamedTuple):
    """A job on a card."""

    verdict: Verdict
    within_bytes: int | None
    """The capacity whose replay is the answer; None for the replay without a limit."""
    parts: tuple[Uncertainty, ...]
    """Everything that the verdict's interval is made of."""


@dataclass(frozen=True)
class Room:
    """A card as a job of some kind finds it. What is besides PyTorch's allocator is counted per GPU."""

    gpu: GPU
    spread: Spread
    world_size: int = 1
    margin: str | None = None
    """As the user wrote it: `1GiB` or `3%`."""
    more: tuple[Uncertainty, ...] = ()
    """What is uncertain about this job on any card."""

    @property
    def gpu_memory_bytes(self) -> int:
        """What CUDA offers."""
        return self.gpu.cuda_total_bytes

    @cached_property
    def context(self) -> ContextEstimate:
        """CUDA context and loaded kernels."""
        return cuda_context_bytes(self.gpu)

    @cached_property
    def nccl(self) -> NcclEstimate:
        """NCCL's buffers."""
        return nccl_bytes(self.gpu, self.world_size)

    @cached_property
    def outside_bytes(self) -> int:
        """What nvidia-smi shows beyond PyTorch's reserved memory, best estimate."""
        return self.context.bytes + self.nccl.bytes

    @cached_property
    def capacity_bytes(self) -> int:
        """What the caching allocator may reserve, best estimate; not positive where the rest alone fills the card."""
        return self.gpu_memory_bytes - self.outside_bytes

    @cached_property
    def most_capacity_bytes(self) -> int:
        """What it may reserve where everything uncertain turns out small."""
        outside = interval(self.outside_bytes, self._outside_parts, ("device_used",))
        fixed = sum(part.low_bytes for part in self.more if part.counts_in == "reserved")
        return max(
            int((self.gpu_memory_bytes - outside.low_bytes - fixed) / (1 + self.spread.low)), self.capacity_bytes
        )

    @cached_property
    def _outside_parts(self) -> tuple[Uncertainty, ...]:
        gpu, context, nccl = self.gpu, self.context, self.nccl
        kept = "memory that the driver keeps"  # which is the more, the less CUDA offers
        return (
            _outside("CUDA context", context.low_bytes, context.bytes, context.high_bytes, context.source),
            _outside("NCCL", nccl.low_bytes, nccl.bytes, nccl.high_bytes, nccl.source),
            _outside(
                kept,
                -gpu.cuda_total_high_bytes,
                -gpu.cuda_total_bytes,
                -gpu.cuda_total_low_bytes,
                gpu.cuda_total_source,
            ),
        )

    def parts(self, reserved_bytes: int, given_back_bytes: int = 0) -> tuple[Uncertainty, ...]:
        """Everything uncertain about a job with this reserved peak, of which so much cached memory was given back to stay in the card."""
        given_back = Uncertainty(
            name="cached memory given back",
            low_bytes=0,
            high_bytes=given_back_bytes,
            counts_in="reserved",
            reason="with room the allocator would keep it, and asking the driver again costs time",
        )
        return merged(
            (
                *self._outside_parts,
                self.spread.part(reserved_bytes),
                given_back,
                self._margin(reserved_bytes),
                *self.more,
            )
        )

    def _margin(self, reserved_bytes: int) -> Uncertainty:
        used = reserved_bytes + self.outside_bytes
        return Uncertainty(
            name="margin",
            low_bytes=0,
            high_bytes=margin_bytes(self.margin, used),
            counts_in="device_used",
            reason=f"asked for: {self.margin}",
        )

    def device_used(self, reserved_bytes: int, parts: tuple[Uncertainty, ...]) -> Interval:
        """The ends of what nvidia-smi would show."""
        return interval(reserved_bytes + self.outside_bytes, parts, ("reserved", "device_used"))

    def fields(self, reserved_bytes: int, parts: tuple[Uncertainty, ...]) -> dict[str, Any]:
        """The fields of a `Forecast` that tell of the card, and between which ends a reserved peak lies on it."""
        reserved = interval(reserved_bytes, parts, ("reserved",))
        used = self.device_used(reserved_bytes, parts)
        return {
            "peak_reserved_bytes": reserved_bytes,
            "device_used_bytes": reserved_bytes + self.outside_bytes,
            "reserved_bytes_low": reserved.low_bytes,
            "reserved_bytes_high": reserved.high_bytes,
            "device_used_bytes_low": used.low_bytes,
            "device_used_bytes_high": used.high_bytes,
            "uncertainty": parts,
            "gpu": self.gpu.name,
            "gpu_memory_bytes": self.gpu_memory_bytes,
            "context_bytes": self.context.bytes,
            "context_uncertainty_bytes": self.context.uncertainty_bytes,
        }

    def verdict(self, reserved_bytes: int, parts: tuple[Uncertainty, ...]) -> Verdict:
        """fits: the high end does; does_not_fit: the low end does not; tight: between."""
        used = self.device_used(reserved_bytes, parts)
        if used.high_bytes <= self.gpu_memory_bytes:
            return "fits"
        return "does_not_fit" if used.low_bytes > self.gpu_memory_bytes else "tight"

    def place(self, natural: AnyPeaks, within: Callable[[int], AnyPeaks]) -> tuple[Placement, AnyPeaks]:
        """The verdict of a job, and the peaks it is of.

        Reserved memory depends on the card: near its limit the allocator gives cached memory back and tries again. So a job whose peak
        without a limit is too large is replayed within the card, and within what the card may have at the best.

        Args:
            natural: the peaks without a limit.
            within: the peaks within a capacity in bytes.
        """
        for capacity in (self.capacity_bytes, self.most_capacity_bytes):
            if natural.peak_reserved_bytes <= capacity:
                return self._placement(natural, None, 0), natural
            if capacity <= 0:
                continue
            limited = within(capacity)
            if not limited.out_of_memory:
                given_back = natural.peak_reserved_bytes - limited.peak_reserved_bytes
                return self._placement(limited, capacity, max(given_back, 0)), limited
        return self._placement(natural, None, 0), natural

    def _placement(self, peaks: AnyPeaks, within: int | None, given_back: int) -> Placement:
        parts = self.parts(peaks.peak_reserved_bytes, given_back)
        verdict = self.verdict(peaks.peak_reserved_bytes, parts)
        # A job that runs by giving memory back runs, but not with room to spare.
        return Placement("tight" if within is not None else verdict, within, parts)


def _outside(name: str, low_bytes: int, best_bytes: int, high_bytes: int, reason: str) -> Uncertainty:
    """A part of what is not PyTorch's, from its ends and its best estimate."""
    return Uncertainty(
        name=name,
        low_bytes=low_bytes - best_bytes,
        high_bytes=high_bytes - best_bytes,
        counts_in="device_used",
        reason=reason,
    )


def margin_bytes(margin: str | None, used_bytes: int) -> int:
    """Bytes of a margin such as `1GiB` or `3%` of what is used.

    Raises:
        InputError: neither a size nor a share from 0 to 100 %.
    """
    if margin is None:
        return 0
    text = margin.strip()
    if not text.endswith("%"):
        return 0 if text == "0" else parse_bytes(text, "margin")
    try:
        share = float(text[:-1])
    except ValueError:
        share = -1.0
    if not 0 <= share <= _PERCENT:
        raise InputError("margin", margin, "write a size such as 1GiB, or a share such as 3%")
    return int(used_bytes * share / _PERCENT)


def room_of(
    gpu: GPU,
    kind: JobKind = "one GPU",
    *,
    world_size: int = 1,
    margin: str | None = None,
    more: tuple[Uncertainty, ...] = (),
) -> Room:
    """The room of a row of the hardware file or of a custom card for a kind of job.

    Raises:
        InputError: nothing is known of the card's context, or the margin cannot be read.
    """
    margin_bytes(margin, 0)
    return Room(gpu, spread_of(kind), world_size, margin, more)
