"""Where things are in the picture of a timeline: bytes and events to pixels, ticks, and how much room a text takes."""

from dataclasses import dataclass
from typing import Final

from vramcast.forecast.memory_curve import MemoryCurve
from vramcast.units import GIB, KIB, MIB, format_bytes, format_gib

WIDTH: Final = 1200
HEIGHT: Final = 560
LEFT, RIGHT, TOP, BOTTOM = 66, 876, 108, 446
"""Of the plot."""
NEAR_LIMIT: Final = 1.5
"""A limit within this factor of the peak is drawn; one further away would only squeeze the curve."""
_WIDEST_LETTER_SHARE: Final = 0.6
"""Width of an average letter of a sans-serif font in font sizes, on the wide side (DejaVu Sans; Arial has 0.5)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The two axes of a plot: events to the right, bytes upwards."""

    num_events: int
    top_bytes: int
    unit: int
    """Bytes of the unit at the vertical axis."""
    tick_bytes: float

    @classmethod
    def of(cls, curve: MemoryCurve, limit_bytes: int | None) -> "Frame":
        """Axes that hold the curve, and the limit where it is near."""
        highest = max(curve.peak_reserved_bytes, curve.peak_allocated_bytes)
        if limit_bytes is not None and is_near(limit_bytes, curve):
            highest = max(highest, limit_bytes)
        highest = max(highest, KIB)
        unit = next(unit for unit in (GIB, MIB, KIB) if highest >= unit / 8 or unit == KIB)
        tick = nice_step(highest / unit, 7) * unit
        return cls(max(1, curve.num_events), round(highest * 1.06), unit, tick)

    def x(self, position: float) -> float:
        """Pixels from the left."""
        return LEFT + (RIGHT - LEFT) * position / self.num_events

    def y(self, nbytes: float) -> float:
        """Pixels from the top."""
        return BOTTOM - (BOTTOM - TOP) * nbytes / self.top_bytes

    @property
    def unit_name(self) -> str:
        """GiB, or a smaller unit where nothing reaches an eighth of a GiB."""
        return {GIB: "GiB", MIB: "MiB", KIB: "KiB"}[self.unit]

    def byte_ticks(self) -> list[tuple[float, str]]:
        """(bytes, number in the unit) from 0 upwards."""
        count = int(self.top_bytes / self.tick_bytes)
        return [(n * self.tick_bytes, f"{n * self.tick_bytes / self.unit:.6g}") for n in range(count + 1)]

    def event_ticks(self) -> list[tuple[int, str]]:
        """(position, number) along the horizontal axis."""
        step = max(1, round(nice_step(self.num_events, 9)))
        return [(position, f"{position:,}") for position in range(0, self.num_events + 1, step)]

    def size(self, nbytes: int) -> str:
        """A size in the unit of the axis; small ones with more digits."""
        if not nbytes:
            return "0"
        if self.unit != GIB:
            return format_bytes(nbytes)
        return format_gib(nbytes, 2 if nbytes >= 10 * MIB else 4)


def is_near(limit_bytes: int, curve: MemoryCurve) -> bool:
    """Whether a limit is drawn."""
    return limit_bytes <= NEAR_LIMIT * max(curve.peak_reserved_bytes, curve.peak_allocated_bytes)


def has_room_above(limit_bytes: int, curve: MemoryCurve) -> bool:
    """Whether a drawn limit has nothing above it, so that words at its line hide none of the curve."""
    return limit_bytes >= max(curve.peak_reserved_bytes, curve.peak_allocated_bytes)


def nice_step(largest: float, most_steps: int) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that reaches `largest` in `most_steps` steps."""
    power = 10.0**-9
    while True:
        for factor in (1, 2, 5):
            if largest <= factor * power * most_steps:
                return factor * power
        power *= 10


def text_width(text: str, font_size: float) -> float:
    """Pixels a text takes at most in a common sans-serif font."""
    return len(text) * font_size * _WIDEST_LETTER_SHARE


def fitting_size(text: str, width: float, largest: float) -> float:
    """The font size, at most `largest`, at which the text fits."""
    return min(largest, width / max(1.0, text_width(text, 1)))


def shortened(text: str, width: float, font_size: float) -> str:
    """The text, or as much of its beginning as fits."""
    room = letters_in(width, font_size)
    return text if len(text) <= room else f"{text[: room - 1].rstrip()}…"


def letters_in(width: float, font_size: float) -> int:
    """How many letters surely fit into so many pixels."""
    return int(width / (font_size * _WIDEST_LETTER_SHARE))
