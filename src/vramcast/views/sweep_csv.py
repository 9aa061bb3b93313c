"""A sweep as comma-separated values: one line per cell, integers of bytes."""

import csv
import io

from vramcast.plan import Sweep

LIVE_BYTES_LABEL = "live tensors (lower bound of allocated)"
SIZES = ("batch_size", "sequence_length")
PEAKS = ("peak_allocated_bytes", "peak_reserved_bytes", "device_used_bytes")


def sweep_csv(sweep: Sweep) -> str:
    """The text with a heading line; a quick sweep has the live tensors instead of peaks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*SIZES, f"{LIVE_BYTES_LABEL} bytes" if sweep.quick else PEAKS[0], *_rest(sweep)))
    for row in sweep.rows:
        first = row.live_bytes if sweep.quick else row.peak_allocated_bytes
        rest = (getattr(row, name) for name in _rest(sweep))
        writer.writerow((row.batch_size, row.sequence_length, first, *rest))
    return out.getvalue()


def _rest(sweep: Sweep) -> tuple[str, ...]:
    return ("verdict",) if sweep.quick else (*PEAKS[1:], "verdict")
