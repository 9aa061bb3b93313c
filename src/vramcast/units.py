"""Bytes in, text out: the only place that turns an int of bytes into GiB and back.

Inside the package every size is an int of bytes. GiB = 2**30, MiB = 2**20. GB (10**9) appears only where a vendor or a guide is quoted.
"""

import re

from vramcast.errors import InputError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
GB = 10**9

_FACTORS = {"b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def format_bytes(nbytes: int) -> str:
    """Text for people, in the largest binary unit that keeps at least one digit before the point: `13.42 GiB`, `512 B`."""
    magnitude = abs(nbytes)
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if magnitude >= factor:
            return f"{nbytes / factor:.2f} {unit}"
    return f"{nbytes} B"


def format_gib(nbytes: int, digits: int = 2) -> str:
    """Always in GiB, for columns that are compared with each other."""
    return f"{nbytes / GIB:.{digits}f} GiB"


def format_figures(nbytes: int) -> str:
    """Three figures, in GiB from 0.1 GiB on and in MiB below: `23.7 GiB`, `0.512 GiB`, `64.0 MiB`."""
    return _figures(nbytes, *_unit(nbytes))


def format_range(low: int, high: int) -> str:
    """`25.1 to 25.7 GiB`; one figure where both ends read the same."""
    factor, unit = _unit(high)
    first, last = _figures(low, factor, unit), _figures(high, factor, unit)
    return last if first == last else f"{first.removesuffix(f' {unit}')} to {last}"


def _unit(nbytes: int) -> tuple[int, str]:
    return (GIB, "GiB") if abs(nbytes) >= GIB // 10 else (MIB, "MiB")


def _figures(nbytes: int, factor: int, unit: str) -> str:
    size = nbytes / factor
    digits = 2 if abs(size) < 10 else 1 if abs(size) < 100 else 0
    digits += abs(size) < 1 and unit == "GiB"
    return f"{size:.{digits}f} {unit}"


def parse_bytes(text: str, field: str) -> int:
    """Bytes of `24GiB`, `512 MiB` or a bare count of bytes.

    Raises:
        InputError: no number, an unknown unit, or a decimal unit: `80GB` could mean 80e9 bytes or the 85.9e9 of an "80 GB" card.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise InputError(field, text, "write a size such as 24GiB or 40960MiB")
    number, unit = match.groups()
    key = unit.lower() or "b"
    if key in ("gb", "g", "mb", "m", "kb", "k", "tb", "t"):
        raise InputError(
            field,
            text,
            f"{unit!r} is ambiguous for a GPU; write GiB or MiB, as nvidia-smi counts (24GiB = 24 x 2**30 bytes)",
        )
    if key not in _FACTORS:
        raise InputError(field, text, "unknown unit; use GiB, MiB, KiB or bytes")
    nbytes = int(float(number) * _FACTORS[key])
    if nbytes <= 0:
        raise InputError(field, text, "must be larger than zero")
    return nbytes
