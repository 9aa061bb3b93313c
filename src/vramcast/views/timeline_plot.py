"""The plot of a timeline: stacked areas, reserved memory, the card's limit, axes, and the allocated peak."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from vramcast.forecast.memory_curve import MemoryCurve
from vramcast.timeline import Category
from vramcast.units import format_gib
from vramcast.views.rows import CATEGORY_COLORS
from vramcast.views.timeline_elements import FAINT, INK, LINE, PAPER, add, add_text, number
from vramcast.views.timeline_frame import BOTTOM, LEFT, RIGHT, TOP, Frame, has_room_above, is_near, text_width

STACK: Final[tuple[Category, ...]] = (
    "parameters",
    "buffers",
    "optimizer_states",
    "gradients",
    "kv_cache",
    "inputs",
    "workspace",
    "activations",
    "temporary",
)
"""From the bottom up: what stays first, what comes and goes last, so that the lower areas stay flat."""
LIMIT_COLOR: Final = "#b3261e"
_CLIP: Final = "vramcast-plot"


@dataclass(frozen=True, slots=True)
class Limit:
    """What the job may take."""

    gpu_memory_bytes: int | None
    """The card's whole memory."""
    capacity_bytes: int | None
    """What PyTorch may reserve of it."""

    @property
    def nbytes(self) -> int | None:
        """What reserved memory is held against."""
        return self.gpu_memory_bytes if self.capacity_bytes is None else self.capacity_bytes

    def sentence(self) -> str:
        """`PyTorch may reserve 23.45 GiB of the GPU's 23.99 GiB`; empty where nothing is known."""
        card = None if self.gpu_memory_bytes is None else format_gib(self.gpu_memory_bytes)
        if self.capacity_bytes is None:
            return "" if card is None else f"the GPU has {card}"
        may = f"PyTorch may reserve {format_gib(self.capacity_bytes)}"
        return may if card is None else f"{may} of the GPU's {card}"


def stacked(curve: MemoryCurve) -> list[tuple[Category, list[int]]]:
    """(category, bytes of it and of everything below it, at each point), from the bottom up."""
    total = [0] * len(curve.positions)
    found = []
    for category in STACK:
        if category in curve.category_bytes:
            total = [below + own for below, own in zip(total, curve.category_bytes[category], strict=True)]
            found.append((category, total))
    return found


def draw_plot(svg: Element, curve: MemoryCurve, frame: Frame, limit: Limit) -> None:
    """Everything between the title and the phases."""
    add(add(add(svg, "defs"), "clipPath", id=_CLIP), "rect", x=LEFT, y=0, width=RIGHT - LEFT, height=BOTTOM + 60)
    _axes(svg, frame)
    clipped = add(svg, "g", clip_path=f"url(#{_CLIP})")
    stretched = add(clipped, "g", class_="stretched")
    _areas(stretched, curve, frame)
    _boundaries(stretched, curve, frame)
    nbytes = limit.nbytes
    if nbytes is not None and is_near(nbytes, curve):
        _limit_line(svg, curve, frame, nbytes, limit.sentence())
    if curve.peak_allocated_bytes:
        _peak(svg, curve, frame)
    if curve.out_of_memory is not None:
        _out_of_memory(svg, curve, frame)


def _axes(svg: Element, frame: Frame) -> None:
    axes = add(svg, "g", class_="axes")
    for nbytes, text in frame.byte_ticks():
        y = frame.y(nbytes)
        add(axes, "line", x1=LEFT, x2=RIGHT, y1=y, y2=y, stroke=LINE)
        add_text(axes, LEFT - 7, y + 4, text, 12, text_anchor="end", fill=FAINT)
    add_text(axes, LEFT - 7, TOP - 10, frame.unit_name, 12, text_anchor="end", fill=FAINT)


def _areas(parent: Element, curve: MemoryCurve, frame: Frame) -> None:
    areas = add(parent, "g", class_="areas")
    # Painted from the top of the stack down: each area reaches to the ground and the next one covers its lower part.
    for category, heights in reversed(stacked(curve)):
        top = step_path(curve.positions, heights, frame)
        path = f"M{number(frame.x(0))} {number(frame.y(0))}{top}V{number(frame.y(0))}Z"
        color = CATEGORY_COLORS[category]
        # The outline keeps a spike of one event visible where events are narrower than a pixel.
        look: dict[str, str | float] = {
            "fill": color,
            "stroke": color,
            "stroke_width": 0.6,
            "vector_effect": "non-scaling-stroke",
        }
        add(areas, "path", d=path, class_="area", data_category=category, **look)
    if curve.positions:
        path = f"M{number(frame.x(0))} {number(frame.y(0))}{step_path(curve.positions, curve.reserved_bytes, frame)}"
        line: dict[str, str | float] = {"fill": "none", "stroke": INK, "stroke_width": 1.6}
        add(parent, "path", d=path, class_="reserved", vector_effect="non-scaling-stroke", **line)


def step_path(positions: Sequence[int], values: Sequence[int], frame: Frame) -> str:
    """A line that holds each value until the next point, and the last one to the right edge."""
    written = []
    height = ""
    for position, value in zip(positions, values, strict=True):
        y = number(round(frame.y(value), 1))
        if y != height:
            written.append(f"H{number(frame.x(position))}V{y}")
            height = y
    return "".join(written) + f"H{number(frame.x(frame.num_events))}"


def _boundaries(parent: Element, curve: MemoryCurve, frame: Frame) -> None:
    for step in curve.steps[:-1]:
        x = frame.x(step.end)
        look: dict[str, str | float] = {"stroke": INK, "stroke_dasharray": "2 4", "stroke_opacity": 0.55}
        add(parent, "line", x1=x, x2=x, y1=TOP, y2=BOTTOM, vector_effect="non-scaling-stroke", **look)


def _limit_line(svg: Element, curve: MemoryCurve, frame: Frame, nbytes: int, sentence: str) -> None:
    y = frame.y(nbytes)
    line: dict[str, str | float] = {"stroke": LIMIT_COLOR, "stroke_width": 1.6, "stroke_dasharray": "7 5"}
    add(svg, "line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="limit", **line)
    if not has_room_above(nbytes, curve):
        return
    on_left = frame.x(curve.peak_allocated_position) > (LEFT + RIGHT) / 2
    x, anchor = (LEFT + 10, "start") if on_left else (RIGHT - 10, "end")
    above = y - 18 >= TOP
    halo: dict[str, str | float] = {"stroke": PAPER, "stroke_width": 4, "stroke_linejoin": "round"}
    place: dict[str, str | float] = {"text_anchor": anchor, "paint_order": "stroke", "fill": LIMIT_COLOR}
    add_text(svg, x, y - 6 if above else y + 15, sentence, 12, **place, **halo)


def _peak(svg: Element, curve: MemoryCurve, frame: Frame) -> None:
    x, y = frame.x(curve.peak_allocated_position), frame.y(curve.peak_allocated_bytes)
    phase = f" in {curve.peak_phase}" if curve.peak_phase else ""
    text = f"peak allocated {frame.size(curve.peak_allocated_bytes)}{phase}"
    group = add(svg, "g", class_="peak", data_x=x)
    add(group, "line", x1=x, x2=x, y1=TOP - 13, y2=y, stroke=INK, stroke_dasharray="1 2")
    add(group, "circle", cx=x, cy=y, r=4.5, fill=PAPER, stroke=INK, stroke_width=1.8)
    _above_the_plot(group, x, TOP - 18, text, INK)


def _out_of_memory(svg: Element, curve: MemoryCurve, frame: Frame) -> None:
    failure = curve.out_of_memory
    assert failure is not None
    x = frame.x(failure.position + 1)
    error = failure.error
    asked = f"{frame.size(error.requested_bytes)} asked for, {frame.size(error.reserved_bytes)} reserved"
    group = add(svg, "g", class_="out-of-memory", data_x=x)
    add(group, "line", x1=x, x2=x, y1=TOP - 30, y2=BOTTOM, stroke=LIMIT_COLOR, stroke_width=1.6)
    _above_the_plot(group, x, TOP - 35, f"out of memory: {asked}", LIMIT_COLOR)


def _above_the_plot(parent: Element, x: float, y: float, text: str, color: str) -> None:
    half = text_width(text, 12.5) / 2
    middle = min(max(x, LEFT + half), RIGHT - half)
    add_text(parent, middle, y, text, 12.5, text_anchor="middle", fill=color, font_weight="bold")
