"""A timeline as one SVG picture: who holds the memory when, what is reserved, where the peak is, and what the card has."""

import textwrap
from collections.abc import Sequence
from xml.etree.ElementTree import Element, tostring

from vramcast.forecast.memory_curve import MemoryCurve
from vramcast.views.timeline_elements import FAINT, FONT, PAPER, add, add_text
from vramcast.views.timeline_frame import (
    HEIGHT,
    WIDTH,
    Frame,
    fitting_size,
    has_room_above,
    is_near,
    letters_in,
    shortened,
    text_width,
)
from vramcast.views.timeline_legend import LiveLine, draw_legend, draw_live_lines, live_lines_height
from vramcast.views.timeline_phases import draw_phases
from vramcast.views.timeline_plot import Limit, draw_plot


def timeline_svg(
    curve: MemoryCurve,
    title: str,
    *,
    gpu_memory_bytes: int | None = None,
    capacity_bytes: int | None = None,
    live_lines: Sequence[LiveLine] = (),
) -> str:
    """A self-contained SVG, 1200 x 560 pixels and higher where `live_lines` are given; every text is escaped.

    Args:
        curve: what to draw.
        title: of the picture, such as the job in one line.
        gpu_memory_bytes: the card's whole memory.
        capacity_bytes: what PyTorch may reserve of it; drawn in place of the card's memory where both are given. A limit
            beyond 1.5 times the peak is said in the subtitle and not drawn.
        live_lines: (source line, bytes alive at the allocated peak), for a table below the picture.
    """
    title = " ".join(title.split())
    limit = Limit(gpu_memory_bytes, capacity_bytes)
    frame = Frame.of(curve, limit.nbytes)
    height = HEIGHT + live_lines_height(live_lines)
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {height}",
            "width": str(WIDTH),
            "height": str(height),
            "font-family": FONT,
            "role": "img",
        },
    )
    add(svg, "title", title)
    add(svg, "rect", width=WIDTH, height=height, fill=PAPER)
    _title(svg, title)
    subtitle = summary(curve, frame, limit)
    add_text(svg, 24, 55, subtitle, fitting_size(subtitle, WIDTH - 44, 12), fill=FAINT)
    draw_plot(svg, curve, frame, limit)
    draw_phases(svg, curve, frame)
    draw_legend(svg, curve, frame, limit)
    draw_live_lines(svg, live_lines, curve, frame)
    return tostring(svg, encoding="unicode")


def _title(svg: Element, title: str) -> None:
    """In one line where it fits, else in two smaller ones."""
    room = WIDTH - 44
    if text_width(title, 16.5) <= room:
        add_text(svg, 24, 32, title, 16, font_weight="bold")
        return
    first, *rest = textwrap.wrap(title, letters_in(room, 13.5))
    add_text(svg, 24, 20 if rest else 32, first, 13, font_weight="bold")
    if rest:
        add_text(svg, 24, 37, shortened(" ".join(rest), room, 13.5), 13, font_weight="bold")


def summary(curve: MemoryCurve, frame: Frame, limit: Limit) -> str:
    """Both peaks with what to compare them with, and the limit where the plot has no words for it."""
    if not curve.peak_allocated_bytes:
        return "no GPU memory was asked for"
    parts = [
        f"peak allocated {frame.size(curve.peak_allocated_bytes)} (torch.cuda.max_memory_allocated)",
        f"peak reserved {frame.size(curve.peak_reserved_bytes)} (torch.cuda.max_memory_reserved)",
    ]
    if limit.nbytes is not None and not (is_near(limit.nbytes, curve) and has_room_above(limit.nbytes, curve)):
        parts.append(limit.sentence())
    return " · ".join(parts)
