"""Answers of a `PeakSource`, each asked for once and used for every card that behaves alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from vramcast.forecast.peaks import Peaks, PeakSource


@dataclass
class KnownPeaks:
    """A `PeakSource` that remembers.

    A replay within a capacity that never gave cached memory back is the replay without a limit: the allocator asks for its limit only
    when the driver would refuse. So such a replay answers for every larger capacity too.
    """

    source: PeakSource
    natural: dict[tuple[int, int], Peaks] = field(default_factory=dict)
    """(batch size, length) -> peaks without a limit."""
    _limited: dict[tuple[int, int, int], Peaks] = field(default_factory=dict)
    _live: dict[tuple[int, int], int] = field(default_factory=dict)

    def live_bytes(self, batch_size: int, length: int) -> int:
        """See `PeakSource`."""
        key = (batch_size, length)
        if key not in self._live:
            self._live[key] = self.source.live_bytes(batch_size, length)
        return self._live[key]

    def peaks(self, batch_size: int, length: int, capacity_bytes: int | None = None) -> Peaks:
        """See `PeakSource`."""
        key = (batch_size, length)
        known = self.natural.get(key)
        if known is not None and (capacity_bytes is None or known.reserved_bytes <= capacity_bytes):
            return known
        if capacity_bytes is None:
            self.natural[key] = self.source.peaks(batch_size, length)
            return self.natural[key]
        return self._within(batch_size, length, capacity_bytes)

    def runs(self, batch_size: int, length: int, capacity_bytes: int) -> bool:
        """Does the job complete with no more than that reserved, be it by giving cached memory back?"""
        if self.live_bytes(batch_size, length) > capacity_bytes:
            return False
        return not self.peaks(batch_size, length, capacity_bytes).out_of_memory

    def _within(self, batch_size: int, length: int, capacity_bytes: int) -> Peaks:
        key = (batch_size, length, capacity_bytes)
        if key not in self._limited:
            peaks = self.source.peaks(batch_size, length, capacity_bytes)
            self._limited[key] = peaks
            if not peaks.out_of_memory and not peaks.num_alloc_retries:
                self.natural[key[:2]] = peaks
        return self._limited[key]


def known_peaks(source: PeakSource) -> KnownPeaks:
    """`source` with a memory; one that has it already is returned as it is."""
    return source if isinstance(source, KnownPeaks) else KnownPeaks(source)
