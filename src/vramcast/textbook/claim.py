"""What a document prints, read as a number: `~8 GB`, `1-1.5 GB`, `6.7:1`, `9.05969664e10 FLOPs`, `132 days`."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from vramcast.errors import VramcastError

Unit = Literal["bytes", "count", "ratio", "share", "flops", "seconds"]

_SUFFIXES: dict[str, tuple[Unit, Decimal]] = {
    "bytes": ("bytes", Decimal(1)),
    "MB": ("bytes", Decimal(10**6)),
    "GB": ("bytes", Decimal(10**9)),
    "Gb": ("bytes", Decimal(10**9)),
    "": ("count", Decimal(1)),
    "x": ("ratio", Decimal(1)),
    ":1": ("ratio", Decimal(1)),
    "%": ("share", Decimal("0.01")),
    "FLOPs": ("flops", Decimal(1)),
    "seconds": ("seconds", Decimal(1)),
    "days": ("seconds", Decimal(86_400)),
}
_NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e\d+)?"
_CLAIM = re.compile(rf"[~≈]?\s*({_NUMBER})(?:\s*-\s*({_NUMBER}))?\s*(.*)")


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure or a range in base units: bytes, FLOPs, seconds, a count, a ratio or a share of 1."""

    text: str
    """As the document prints it."""
    low: float
    high: float
    """Equal to `low` where the document prints one number."""
    unit: Unit
    last_digit: Decimal | None = None
    """Base units of the last digit printed; None for a value that no document prints."""

    def prints(self, value: float) -> bool:
        """Whether `value`, in base units, is printed as this figure: rounded to its last digit, or within its range."""
        if self.last_digit is None:
            return value == self.low
        if self.low != self.high:
            return self.low <= value <= self.high
        steps = (Decimal(value) / self.last_digit).to_integral_value()
        return steps == (Decimal(self.low) / self.last_digit).to_integral_value()

    def nearest(self, value: float) -> float:
        """The point of the range closest to `value`."""
        return min(max(value, self.low), self.high)


def parse_claim(text: str) -> Claim:
    """Read a printed figure. MB and GB are 10**6 and 10**9 bytes, as the guides count (150M x 4 bytes = 600 MB).

    Raises:
        VramcastError: not a figure or an unknown unit; the data file that holds it is wrong.
    """
    match = _CLAIM.fullmatch(text.strip())
    if match is None or match[3].strip() not in _SUFFIXES:
        raise VramcastError(
            f"printed={text!r}: write a number or a range, then one of {', '.join(filter(None, _SUFFIXES))}"
        )
    unit, scale = _SUFFIXES[match[3].strip()]
    numbers = [Decimal(number.replace(",", "")) for number in match.group(1, 2) if number]
    low, high = _plain(numbers[0] * scale), _plain(numbers[-1] * scale)
    return Claim(text, low, high, unit, scale.scaleb(int(numbers[0].as_tuple().exponent)))


def computed_claim(value: float, unit: Unit) -> Claim:
    """A formula's own value, where no document prints one."""
    return Claim(format_value(value, unit), value, value, unit)


def format_value(value: float, unit: Unit) -> str:
    """Base units as the guides print them, decimal GB and MB among them."""
    match unit:
        case "bytes":
            return f"{value / 1e9:,.2f} GB" if abs(value) >= 1e8 else f"{value / 1e6:,.1f} MB"
        case "count":
            return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
        case "ratio":
            return f"{value:,.2f}x"
        case "share":
            return f"{value:.0%}"
        case "flops":
            return f"{value:.4g} FLOPs"
        case "seconds":
            years = value / (86_400 * 365.25)
            return f"{value / 86_400:,.0f} days" if years < 2 else f"{years:,.1f} years"


def _plain(value: Decimal) -> float:
    return int(value) if value == value.to_integral_value() else float(value)
