"""Settings of PyTorch's CUDA caching allocator, with PyTorch's defaults and limits.

Source: c10/core/AllocatorConfig.h and c10/cuda/CUDAAllocatorConfig.h of PyTorch 2.13.
"""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vramcast.allocator.environment import NUM_ROUNDUP_INTERVALS, SETTING_FIELDS, parse_settings
from vramcast.errors import InputError
from vramcast.units import MIB

UNLIMITED = 2**64 - 1
LARGE_SEGMENT = 20 * MIB

_MIN_LARGE_ALLOC = 10 * MIB
_NO_ROUNDUP = (0,) * NUM_ROUNDUP_INTERVALS


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorConfig:
    """How the allocator rounds, splits, grows and gives back memory. Sizes are ints of bytes.

    Raises:
        InputError: a value that PyTorch refuses too; the message names the field, the value and the limit.
    """

    expandable_segments: bool = False
    """Grow one mapped range per stream and pool instead of one `cudaMalloc` per segment."""
    max_split_size: int = UNLIMITED
    """Blocks of this size or more are never split; at least `large_segment_size`."""
    max_non_split_rounding: int | None = None
    """Slack allowed when a block of `max_split_size` or more is reused whole; None = `large_segment_size`, as in
    PyTorch."""
    roundup_power2_divisions: tuple[int, ...] = _NO_ROUNDUP
    """Steps between two powers of two that requests round up to, one value for each of [1 MiB, 2 MiB) ... 32 GiB and
    above; 0 or 1 = off."""
    garbage_collection_threshold: float = 0.0
    """Share of the allowed memory above which old cached blocks are given back; 0 = off, and off without a memory
    fraction."""
    per_process_memory_fraction: float = 1.0
    """Reserved bytes may not exceed this share of the GPU's total memory; 1 = no limit but the GPU itself."""
    large_segment_size: int = LARGE_SEGMENT
    """Bytes of the segment that requests in (1 MiB, 10 MiB) share, and the page of large expandable segments."""
    throw_on_cudamalloc_oom: bool = False
    """With a memory fraction: refuse at once what exceeds it, without flushing the cache and trying again."""

    def __post_init__(self) -> None:
        if self.large_segment_size <= _MIN_LARGE_ALLOC or self.large_segment_size % MIB:
            raise InputError(
                "large_segment_size", self.large_segment_size, "must be a whole number of MiB above 10 MiB"
            )
        for field in ("max_split_size", "max_non_split_rounding"):
            value = getattr(self, field)
            if value is None or value == UNLIMITED:
                continue
            if value < self.large_segment_size or value % MIB:
                least = f"large_segment_size ({self.large_segment_size // MIB} MiB)"
                raise InputError(field, value, f"must be a whole number of MiB, at least {least}")
        if not 0.0 <= self.garbage_collection_threshold < 1.0:
            raise InputError(
                "garbage_collection_threshold", self.garbage_collection_threshold, "must lie between 0 and 1"
            )
        if not 0.0 < self.per_process_memory_fraction <= 1.0:
            raise InputError(
                "per_process_memory_fraction", self.per_process_memory_fraction, "must be above 0 and at most 1"
            )
        self._check_divisions()
        self._warn_where_without_effect()

    def _check_divisions(self) -> None:
        field, divisions = "roundup_power2_divisions", self.roundup_power2_divisions
        if len(divisions) != NUM_ROUNDUP_INTERVALS:
            raise InputError(field, divisions, f"needs {NUM_ROUNDUP_INTERVALS} values, one per power of two from 1 MiB")
        for value in divisions:
            if value < 0 or value & (value - 1):
                raise InputError(field, value, "each division must be a power of two, or 0 for off")

    def _warn_where_without_effect(self) -> None:
        if self.per_process_memory_fraction < 1.0:
            return
        for field in ("garbage_collection_threshold", "throw_on_cudamalloc_oom"):
            if getattr(self, field):
                warnings.warn(
                    f"{field} has no effect unless per_process_memory_fraction is below 1", UserWarning, stacklevel=4
                )

    @classmethod
    def from_environment_string(cls, text: str) -> Self:
        """Settings from the value of `PYTORCH_CUDA_ALLOC_CONF`, such as
        `expandable_segments:True,max_split_size_mb:128`.

        Keys that change no GPU memory (pinned host memory, locks) are accepted and ignored.

        Raises:
            InputError: an unknown key, a malformed or refused value, or `backend:cudaMallocAsync`, which is not
                simulated.
        """
        return cls(**parse_settings(text))

    def to_environment_string(self) -> str:
        """The settings that differ from the defaults, in the syntax of `PYTORCH_CUDA_ALLOC_CONF`."""
        default = AllocatorConfig()
        parts = []
        for key, field in SETTING_FIELDS.items():
            value = getattr(self, field)
            if value == getattr(default, field):
                continue
            if field == "roundup_power2_divisions":
                value = "[" + ",".join(f"{1 << i}:{division}" for i, division in enumerate(value)) + "]"
            parts.append(f"{key}:{value // MIB if key.endswith('_mb') else value}")
        return ",".join(parts)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings a CUDA process would take from its environment variables.

        `PYTORCH_CUDA_ALLOC_CONF` is read first, `PYTORCH_ALLOC_CONF` only where it is unset (CUDAAllocatorConfig.h).

        Raises:
            InputError: as `from_environment_string`; also when caching is switched off altogether.
        """
        environ = os.environ if environ is None else environ
        if environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING") == "1":
            raise InputError(
                "PYTORCH_NO_CUDA_MEMORY_CACHING", "1", "the caching allocator is off; unset it to simulate it"
            )
        cuda, generic = environ.get("PYTORCH_CUDA_ALLOC_CONF"), environ.get("PYTORCH_ALLOC_CONF")
        if cuda is not None and generic is not None and cuda != generic:
            warnings.warn(
                f"PYTORCH_CUDA_ALLOC_CONF={cuda!r} and PYTORCH_ALLOC_CONF={generic!r} differ; the first is used",
                UserWarning,
                stacklevel=2,
            )
        return cls.from_environment_string(cuda if cuda is not None else generic or "")
