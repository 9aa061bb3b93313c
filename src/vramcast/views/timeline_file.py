"""A timeline written to a file, as the picture or the page that its suffix asks for."""

from collections.abc import Sequence
from pathlib import Path

from vramcast.errors import InputError
from vramcast.forecast.memory_curve import DEFAULT_POINTS, MemoryCurve
from vramcast.views.timeline_html import timeline_html
from vramcast.views.timeline_legend import LiveLine
from vramcast.views.timeline_svg import timeline_svg
from vramcast.whole_file import replacing

_WRITERS = {".svg": timeline_svg, ".html": timeline_html}
_POINTS = {".svg": DEFAULT_POINTS, ".html": 4 * DEFAULT_POINTS}
"""A page can be zoomed into, so it takes a finer curve."""


def check_timeline_path(path: Path) -> None:
    """Refuse a file that `write_timeline` could not write, before any work is done.

    Raises:
        InputError: the suffix is neither .svg nor .html, the folder does not exist, or the path is one itself.
    """
    if path.suffix.lower() not in _WRITERS:
        raise InputError("timeline", str(path), "end the name in .svg for a picture or .html for a page")
    if path.is_dir():
        raise InputError("timeline", str(path), "this is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError("timeline", str(path), f"the folder {path.parent} does not exist; make it first")


def curve_points(path: Path) -> int:
    """How many points of a curve the file is worth: `points` of `memory_curve`."""
    check_timeline_path(path)
    return _POINTS[path.suffix.lower()]


def write_timeline(
    path: Path,
    curve: MemoryCurve,
    title: str,
    *,
    gpu_memory_bytes: int | None = None,
    capacity_bytes: int | None = None,
    live_lines: Sequence[LiveLine] = (),
) -> None:
    """Write a picture (.svg) or a page (.html); a file already there stays whole until the new one is.

    Arguments but the path are those of `timeline_svg`.

    Raises:
        InputError: as for `check_timeline_path`, or the file cannot be written.
    """
    check_timeline_path(path)
    text = _WRITERS[path.suffix.lower()](
        curve, title, gpu_memory_bytes=gpu_memory_bytes, capacity_bytes=capacity_bytes, live_lines=live_lines
    )
    try:
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("timeline", str(path), f"cannot be written: {error.strerror}") from error
