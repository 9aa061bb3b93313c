"""Beside and below the plot of a timeline: what is alive at the peak by category, the phases' colours, and by source line."""

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from vramcast.forecast.memory_curve import MemoryCurve
from vramcast.views.rows import CATEGORY_COLORS, CATEGORY_NAMES
from vramcast.views.timeline_elements import FAINT, INK, LINE, add, add_text
from vramcast.views.timeline_frame import HEIGHT, TOP, WIDTH, Frame, is_near, shortened
from vramcast.views.timeline_phases import OTHER_COLOR, PHASE_COLORS, phase_name
from vramcast.views.timeline_plot import LIMIT_COLOR, STACK, Limit

LiveLine = tuple[str, int]
"""(source line, bytes alive at the allocated peak that were asked for there)."""
MOST_LIVE_LINES: Final = 12
_LEFT, _SIZES_AT, _SHARES_AT = 904, 1128, 1182
_ROW: Final = 20
_LINE_ROW: Final = 19


def draw_legend(svg: Element, curve: MemoryCurve, frame: Frame, limit: Limit) -> None:
    """Sizes of the categories at the allocated peak, in the order of the stack; then the lines and the phases."""
    y = _rows_of_categories(svg, curve, frame)
    y = _rows_of_lines(svg, curve, frame, limit, y)
    phases = dict.fromkeys(interval.phase for interval in curve.phases)
    for index, phase in enumerate(list(phases)[:10]):
        x, row = _LEFT + 130 * (index % 2), y + 14 + _ROW * (index // 2)
        add(svg, "rect", x=x, y=row - 10, width=12, height=12, fill=PHASE_COLORS.get(phase, OTHER_COLOR))
        add_text(svg, x + 19, row, shortened(phase_name(phase), 108, 12), 12)


def _rows_of_categories(svg: Element, curve: MemoryCurve, frame: Frame) -> float:
    at_peak = curve.peak_breakdown
    total = max(curve.peak_allocated_bytes, 1)
    y = float(TOP + 6)
    add_text(svg, _LEFT, y, "alive at the allocated peak", 12, font_weight="bold")
    for category in reversed(STACK):
        if category not in at_peak:
            continue
        y += _ROW
        row = add(svg, "g", class_="legend", data_category=category)
        add(row, "rect", x=_LEFT, y=y - 10, width=12, height=12, fill=CATEGORY_COLORS[category])
        add_text(row, _LEFT + 19, y, CATEGORY_NAMES[category], 12)
        _numbers(row, y, frame.size(at_peak[category]), f"{at_peak[category] / total:.1%}")
    y += 8
    add(svg, "line", x1=_LEFT, x2=_SHARES_AT, y1=y, y2=y, stroke=LINE)
    y += 16
    add_text(svg, _LEFT + 19, y, "allocated", 12, font_weight="bold")
    _numbers(svg, y, frame.size(curve.peak_allocated_bytes), "")
    return y


def _rows_of_lines(svg: Element, curve: MemoryCurve, frame: Frame, limit: Limit, y: float) -> float:
    rows = [("peak reserved", curve.peak_reserved_bytes, INK, "")]
    if limit.nbytes is not None and is_near(limit.nbytes, curve):
        rows.append(("limit", limit.nbytes, LIMIT_COLOR, "4 2"))
    for name, nbytes, color, dashes in rows:
        y += _ROW
        line: dict[str, str | float] = {"stroke": color, "stroke_width": 2, "stroke_dasharray": dashes or "none"}
        add(svg, "line", x1=_LEFT - 1, x2=_LEFT + 14, y1=y - 4, y2=y - 4, **line)
        add_text(svg, _LEFT + 19, y, name, 12)
        _numbers(svg, y, frame.size(nbytes), "")
    y += _ROW
    return y


def _numbers(parent: Element, y: float, size: str, share: str) -> None:
    add_text(parent, _SIZES_AT, y, size, 12, text_anchor="end")
    if share:
        add_text(parent, _SHARES_AT, y, share, 12, text_anchor="end", fill=FAINT)


def live_lines_height(live_lines: Sequence[LiveLine]) -> int:
    """Pixels that the table of source lines adds below the picture."""
    rows = min(len(live_lines), MOST_LIVE_LINES) + (len(live_lines) > MOST_LIVE_LINES)
    return 0 if not rows else 44 + _LINE_ROW * rows


def draw_live_lines(svg: Element, live_lines: Sequence[LiveLine], curve: MemoryCurve, frame: Frame) -> None:
    """The source lines that hold most at the allocated peak, largest first."""
    if not live_lines:
        return
    add(svg, "line", x1=24, x2=WIDTH - 20, y1=HEIGHT, y2=HEIGHT, stroke=LINE)
    y = float(HEIGHT + 22)
    add_text(svg, 24, y, "alive at the allocated peak, by the source line that asked for it", 12, font_weight="bold")
    ordered = sorted(live_lines, key=lambda line: -line[1])
    rows = ordered[:MOST_LIVE_LINES]
    if len(ordered) > len(rows):
        rest = ordered[len(rows) :]
        rows = [*rows, (f"{len(rest)} more lines", sum(nbytes for _, nbytes in rest))]
    for label, nbytes in rows:
        y += _LINE_ROW
        add_text(svg, 24, y, shortened(label, _SIZES_AT - 130, 12), 12, font_family="'DejaVu Sans Mono', monospace")
        _numbers(svg, y, frame.size(nbytes), f"{nbytes / max(curve.peak_allocated_bytes, 1):.1%}")
