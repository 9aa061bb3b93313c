"""The strip below the plot of a timeline: what was being done, and which optimizer step it belongs to."""

from itertools import groupby
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from vramcast.forecast.memory_curve import MemoryCurve
from vramcast.views.timeline_elements import FAINT, INK, add, add_text, number
from vramcast.views.timeline_frame import BOTTOM, LEFT, RIGHT, Frame, text_width

PHASE_COLORS: Final = {
    "load": "#c9ced6",
    "forward": "#a9cdf2",
    "backward": "#f6c79b",
    "recompute": "#e58f5b",
    "optimizer": "#b5dcae",
    "zero_grad": "#dfe9b4",
    "prefill": "#a9cdf2",
    "decode": "#cdbdec",
}
OTHER_COLOR: Final = "#e8ebef"
_NAMES: Final = {"": "other", "optimizer": "optimizer step"}
_BAND_TOP, _BAND_HEIGHT, _SLICE_HEIGHT = BOTTOM + 4, 20, 5
_STEP_TOP = _BAND_TOP + _BAND_HEIGHT + 3
_TICKS_AT = _STEP_TOP + 30
_NARROWEST: Final = 0.2
"""Pixels; what is narrower cannot be seen."""


class PhaseGroup(NamedTuple):
    """Neighbouring intervals under one name."""

    name: str
    family: str
    """Phase whose colour the stretch has."""
    begin: int
    end: int


def phase_name(phase: str) -> str:
    """The words for a phase."""
    return _NAMES.get(phase, phase)


def phase_groups(curve: MemoryCurve) -> list[PhaseGroup]:
    """Phases as they are named: backward and the recomputations within it are one stretch."""
    found = []
    for family, run in groupby(curve.phases, key=lambda interval: _family(interval.phase)):
        intervals = list(run)
        names = dict.fromkeys(interval.phase for interval in intervals)
        name = " + ".join(phase_name(phase) for phase in names)
        found.append(PhaseGroup(name, family, intervals[0].begin, intervals[-1].end))
    return found


def _family(phase: str) -> str:
    return "backward" if phase == "recompute" else phase


def draw_phases(svg: Element, curve: MemoryCurve, frame: Frame) -> None:
    """Bands and their names, the steps, and the axis of events."""
    stretched = add(add(svg, "g", clip_path="url(#vramcast-plot)"), "g", class_="stretched")
    groups = [group for group in phase_groups(curve) if _is_seen(frame, group.begin, group.end)]
    for group in groups:
        _band(stretched, frame, group.begin, group.end, PHASE_COLORS.get(group.family, OTHER_COLOR))
    _recomputations(stretched, curve, frame)
    labels = add(svg, "g", class_="labels")
    for group in groups:
        _label(labels, frame, group.name, group.begin, group.end, _BAND_TOP + 12, INK)
    _steps(stretched, labels, curve, frame)
    ticks = add(svg, "g", class_="event-ticks", data_y=_TICKS_AT)
    for position, text in frame.event_ticks():
        add(
            ticks,
            "line",
            x1=frame.x(position),
            x2=frame.x(position),
            y1=_TICKS_AT - 14,
            y2=_TICKS_AT - 10,
            stroke=FAINT,
        )
        add_text(ticks, frame.x(position), _TICKS_AT + 1, text, 11, text_anchor="middle", fill=FAINT)
    explanation = "allocator events: the order of allocations and frees, not time"
    add_text(svg, (LEFT + RIGHT) / 2, _TICKS_AT + 22, explanation, 12, text_anchor="middle", fill=FAINT)


def _is_seen(frame: Frame, begin: int, end: int) -> bool:
    return frame.x(end) - frame.x(begin) >= _NARROWEST


def _band(parent: Element, frame: Frame, begin: int, end: int, color: str) -> None:
    x = frame.x(begin)
    add(parent, "rect", x=x, y=_BAND_TOP, width=frame.x(end) - x, height=_BAND_HEIGHT, fill=color)


def _recomputations(parent: Element, curve: MemoryCurve, frame: Frame) -> None:
    """Along the lower edge, so that the name above stays readable."""
    slices = []
    top = _BAND_TOP + _BAND_HEIGHT - _SLICE_HEIGHT
    for phase, begin, end in curve.phases:
        if phase == "recompute" and _is_seen(frame, begin, end):
            width = frame.x(end) - frame.x(begin)
            slices.append(f"M{number(frame.x(begin))} {top}h{number(width)}v{_SLICE_HEIGHT}h-{number(width)}z")
    if slices:
        add(parent, "path", d="".join(slices), fill=PHASE_COLORS["recompute"])


def _steps(stretched: Element, labels: Element, curve: MemoryCurve, frame: Frame) -> None:
    y = _STEP_TOP + 2
    named = 0
    for number_of_step, (begin, end) in enumerate(curve.steps, 1):
        if not _is_seen(frame, begin, end):
            continue
        left, right = frame.x(begin), frame.x(end)
        path = f"M{number(left + 1)} {y + 3}V{y}H{number(right - 1)}V{y + 3}"
        add(stretched, "path", d=path, fill="none", stroke=FAINT, vector_effect="non-scaling-stroke")
        named += _label(labels, frame, f"step {number_of_step}", begin, end, y + 12, FAINT)
    if curve.steps and not named:
        text = f"{len(curve.steps)} optimizer steps"
        _label(labels, frame, text, curve.steps[0].begin, curve.steps[-1].end, y + 12, FAINT)


def _label(parent: Element, frame: Frame, text: str, begin: int, end: int, y: float, color: str) -> bool:
    """A name in the middle of its stretch; hidden where the stretch is too narrow for it."""
    left, right = frame.x(begin), frame.x(end)
    fits = text_width(text, 11) + 4 <= right - left
    about: dict[str, str | float] = {"data_begin": str(begin), "data_end": str(end), "text_anchor": "middle"}
    hidden = {} if fits else {"visibility": "hidden"}
    add_text(parent, (left + right) / 2, y, text, 11, fill=color, **about, **hidden)
    return fits
