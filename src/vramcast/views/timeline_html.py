"""A timeline as one HTML page: the picture of `timeline_svg`, with sizes under the pointer, zoom, and the live source lines."""

import json
from collections.abc import Sequence
from html import escape
from importlib import resources

from vramcast.forecast.memory_curve import MemoryCurve
from vramcast.views.rows import CATEGORY_COLORS, CATEGORY_NAMES
from vramcast.views.timeline_elements import xml_text
from vramcast.views.timeline_frame import BOTTOM, LEFT, RIGHT, TOP, Frame
from vramcast.views.timeline_legend import LiveLine
from vramcast.views.timeline_phases import phase_name
from vramcast.views.timeline_plot import STACK, Limit
from vramcast.views.timeline_svg import timeline_svg

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
"""The browser itself keeps the page from asking any host for anything."""


def timeline_html(
    curve: MemoryCurve,
    title: str,
    *,
    gpu_memory_bytes: int | None = None,
    capacity_bytes: int | None = None,
    live_lines: Sequence[LiveLine] = (),
) -> str:
    """A self-contained page that reaches no network; arguments as for `timeline_svg`, every text is escaped."""
    frame = Frame.of(curve, Limit(gpu_memory_bytes, capacity_bytes).nbytes)
    picture = timeline_svg(curve, title, gpu_memory_bytes=gpu_memory_bytes, capacity_bytes=capacity_bytes)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(xml_text(title))}</title>",
            f"<style>\n{_file('timeline_page.css')}</style>\n</head>\n<body>",
            f'<figure>{picture}<div class="tip" hidden></div></figure>',
            '<div class="bar"><button class="reset" hidden>whole timeline</button>',
            "<span>point at the plot for sizes, drag to zoom, double-click for the whole, click a category to hide it</span></div>",
            _live_table(live_lines, curve, frame),
            f'<script id="data" type="application/json">{_script_json(_page_data(curve, frame))}</script>',
            f"<script>\n{_file('timeline_page.js')}</script>\n</body>\n</html>\n",
        ]
    )


def _page_data(curve: MemoryCurve, frame: Frame) -> dict[str, object]:
    return {
        "numEvents": frame.num_events,
        "topBytes": frame.top_bytes,
        "plot": {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        "positions": curve.positions,
        "categories": [
            {
                "key": category,
                "name": CATEGORY_NAMES[category],
                "color": CATEGORY_COLORS[category],
                "bytes": curve.category_bytes[category],
            }
            for category in STACK
            if category in curve.category_bytes
        ],
        "reserved": curve.reserved_bytes,
        "phases": [[phase_name(phase), begin, end] for phase, begin, end in curve.phases],
        "steps": [[f"step {number}", begin, end] for number, (begin, end) in enumerate(curve.steps, 1)],
        "peakPosition": curve.peak_allocated_position,
    }


def _script_json(data: dict[str, object]) -> str:
    """JSON that cannot end the script it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _live_table(live_lines: Sequence[LiveLine], curve: MemoryCurve, frame: Frame) -> str:
    if not live_lines:
        return ""
    total = max(curve.peak_allocated_bytes, 1)
    rows = "\n".join(
        f"<tr><td>{escape(xml_text(label))}</td><td>{frame.size(nbytes)}</td><td>{nbytes / total:.1%}</td></tr>"
        for label, nbytes in sorted(live_lines, key=lambda line: -line[1])
    )
    return (
        '<table class="live"><caption>alive at the allocated peak, by the source line that asked for it</caption>\n'
        f"<tr><th>source line</th><th>size</th><th>of the peak</th></tr>\n{rows}\n</table>"
    )


def _file(name: str) -> str:
    return resources.files("vramcast.views").joinpath(name).read_text(encoding="utf-8")
