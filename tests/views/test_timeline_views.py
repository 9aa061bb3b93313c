"""The picture of a timeline: exact heights, no text over text, everything escaped, nothing asked of a network."""

import json
import re
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.allocator import AllocatorOutOfMemory, FailedAllocation
from vramcast.errors import InputError
from vramcast.forecast.memory_curve import CurveMark, MemoryCurve, memory_curve
from vramcast.forecast.phase_intervals import PhaseInterval, StepInterval
from vramcast.timeline import CATEGORIES, Allocation, Timeline
from vramcast.units import GIB, KIB, MIB
from vramcast.views import timeline_file
from vramcast.views.timeline_file import check_timeline_path, curve_points, write_timeline
from vramcast.views.timeline_frame import BOTTOM, Frame, nice_step, shortened, text_width
from vramcast.views.timeline_html import timeline_html
from vramcast.views.timeline_phases import phase_groups
from vramcast.views.timeline_plot import STACK, Limit, stacked
from vramcast.views.timeline_svg import timeline_svg

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "</script><b>&\"'\x00\ud800 ]]> <!-- é"


def a_curve() -> MemoryCurve:
    timeline = Timeline()
    timeline.alloc(Allocation(GIB, category="parameters", phase="load"))
    for _ in range(2):
        saved = [timeline.alloc(Allocation(GIB, category="activations", phase="forward")) for _ in range(30)]
        for index in reversed(saved):
            timeline.free(timeline.alloc(Allocation(GIB // 2, phase="recompute")))
            timeline.alloc(Allocation(10 * MIB, category="gradients", phase="backward"))
            timeline.free(index)
        timeline.free(timeline.alloc(Allocation(GIB, phase="optimizer")))
    return memory_curve(timeline)


@st.composite
def curves(draw: st.DrawFn) -> MemoryCurve:
    """Of any height from bytes to terabytes, with any phases, steps and failure."""
    count = draw(st.integers(1, 12))
    gaps = draw(st.lists(st.integers(1, 10 ** draw(st.integers(0, 5))), min_size=count, max_size=count))
    positions = tuple(sum(gaps[:index]) for index in range(count))
    scale = draw(st.sampled_from([1, KIB, MIB, GIB]))
    sizes = st.lists(st.integers(0, 1500).map(lambda size: size * scale), min_size=count, max_size=count)
    category_bytes = {
        category: tuple(draw(sizes)) for category in CATEGORIES if draw(st.booleans()) or category == "temporary"
    }
    totals = [sum(values) for values in zip(*category_bytes.values(), strict=True)]
    reserved = tuple(total + draw(st.integers(0, 100)) * scale for total in totals)
    num_events = positions[-1] + draw(st.integers(1, 50))
    edges = sorted({0, num_events, *draw(st.lists(st.integers(1, num_events), max_size=8))})
    names = st.sampled_from(["load", "forward", "backward", "recompute", "optimizer", "zero_grad", "", "my own phase"])
    phases = tuple(PhaseInterval(draw(names), begin, end) for begin, end in pairwise(edges))
    peak = totals.index(max(totals))
    error = AllocatorOutOfMemory(
        requested_bytes=7 * scale,
        allocated_bytes=totals[-1],
        reserved_bytes=reserved[-1],
        free_bytes=0,
        capacity_bytes=reserved[-1],
        allowed_bytes=None,
    )
    return MemoryCurve(
        num_events=num_events,
        positions=positions,
        category_bytes=category_bytes,
        reserved_bytes=reserved,
        phases=phases,
        steps=tuple(StepInterval(begin, end) for _, begin, end in phases),
        marks=(CurveMark("here", 0, totals[0]),),
        peak_allocated_bytes=totals[peak],
        peak_allocated_position=positions[peak],
        peak_phase=draw(names),
        peak_reserved_bytes=max(reserved),
        peak_reserved_position=positions[reserved.index(max(reserved))],
        out_of_memory=FailedAllocation(num_events - 1, 0, error) if draw(st.booleans()) else None,
    )


def texts(picture: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(picture)
    return [text for text in root.iter(f"{SVG}text") if text.get("visibility") != "hidden"]


def words(picture: str) -> str:
    return "\n".join(text.text or "" for text in texts(picture))


def box(text: ElementTree.Element) -> tuple[float, float, float, float]:
    """(left, right, top, bottom), from the room that the layout takes for granted."""
    size, x, y = float(text.get("font-size", 0)), float(text.get("x", 0)), float(text.get("y", 0))
    width = text_width(text.text or "", size)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.get("text-anchor", "start")]
    return left, left + width, y - 0.75 * size, y + 0.2 * size


@given(
    curves(),
    st.none() | st.integers(1, 2000 * GIB),
    st.none() | st.integers(1, 2000 * GIB),
    st.lists(st.tuples(st.text(max_size=300), st.floats(0, 1)), max_size=16),
)
def test_no_text_lies_over_another_or_leaves_the_picture(
    curve: MemoryCurve, gpu_memory: int | None, capacity: int | None, shares: list[tuple[str, float]]
) -> None:
    lines = [(label, int(share * curve.peak_allocated_bytes)) for label, share in shares]
    picture = timeline_svg(
        curve, "a title " * 9, gpu_memory_bytes=gpu_memory, capacity_bytes=capacity, live_lines=lines
    )
    width, height = map(float, ElementTree.fromstring(picture).get("viewBox", "").split()[2:])
    found = [(text.text, box(text)) for text in texts(picture)]
    for (one, a), (other, b) in combinations(found, 2):
        apart = a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
        assert apart, (one, a, other, b)
    for text, (left, right, top, bottom) in found:
        assert 0 <= left and right <= width and 0 <= top and bottom <= height, text


@given(curves())
def test_the_stack_adds_up_to_what_is_allocated(curve: MemoryCurve) -> None:
    assert tuple(stacked(curve)[-1][1]) == curve.allocated_bytes


def test_every_category_has_its_place_in_the_stack() -> None:
    assert sorted(STACK) == sorted(CATEGORIES)


def test_the_areas_reach_the_exact_height() -> None:
    curve = a_curve()
    picture = ElementTree.fromstring(timeline_svg(curve, "t"))
    areas = {
        path.get("data-category"): path.get("d", "")
        for path in picture.iter(f"{SVG}path")
        if path.get("class") == "area"
    }
    assert list(areas) == ["temporary", "activations", "gradients", "parameters"]  # painted from the top down
    frame = Frame.of(curve, None)
    highest = min(float(y) for y in re.findall(r"V([\d.]+)", areas["temporary"]))
    assert highest == round(frame.y(curve.peak_allocated_bytes), 1)
    assert f"V{round(frame.y(GIB), 1):g}H" in areas["parameters"]
    assert areas["parameters"].endswith(f"V{BOTTOM}Z")


def test_the_picture_says_peaks_phases_steps_and_that_there_is_no_time() -> None:
    said = words(timeline_svg(a_curve(), "GPT on a card"))
    assert "GPT on a card" in said
    assert "peak allocated 31.79 GiB in recompute" in said
    assert "peak allocated 31.79 GiB (torch.cuda.max_memory_allocated)" in said
    assert "not time" in said
    for name in ("forward", "backward", "recompute", "recompute + backward", "optimizer step", "step 1", "step 2"):
        assert name in said.splitlines(), name
    rows = said.splitlines()
    assert rows[rows.index("activations") : rows.index("activations") + 3] == ["activations", "30.00 GiB", "94.4%"]
    assert rows[rows.index("allocated") + 1] == "31.79 GiB"


def test_backward_and_its_recomputations_have_one_name() -> None:
    curve = a_curve()
    names = [group.name for group in phase_groups(curve)]
    assert names == ["load", *["forward", "recompute + backward", "optimizer step"] * 2]
    assert len(curve.phases) == 1 + 2 * (1 + 60 + 1)


def test_a_limit_is_drawn_near_the_peak_and_only_said_beyond_it() -> None:
    curve = a_curve()
    near = timeline_svg(curve, "t", gpu_memory_bytes=48 * GIB, capacity_bytes=47 * GIB)
    far = timeline_svg(curve, "t", gpu_memory_bytes=81 * GIB, capacity_bytes=80 * GIB)
    assert 'class="limit"' in near and 'class="limit"' not in far
    assert "PyTorch may reserve 47.00 GiB of the GPU's 48.00 GiB" in words(near).splitlines()
    assert "PyTorch may reserve 80.00 GiB of the GPU's 81.00 GiB" in words(far)
    small = timeline_svg(curve, "t", gpu_memory_bytes=24 * GIB)
    assert 'class="limit"' in small
    assert words(small).splitlines()[1].endswith(" · the GPU has 24.00 GiB")  # at the line it would hide the curve
    assert words(small).count("the GPU has 24.00 GiB") == 1
    assert "GPU has" not in words(timeline_svg(curve, "t"))


def test_the_limit_line_is_at_the_limit() -> None:
    curve = a_curve()
    picture = ElementTree.fromstring(timeline_svg(curve, "t", gpu_memory_bytes=40 * GIB))
    (line,) = [each for each in picture.iter(f"{SVG}line") if each.get("class") == "limit"]
    assert float(line.get("y1", 0)) == pytest.approx(Frame.of(curve, 40 * GIB).y(40 * GIB), abs=0.01)


def test_running_out_of_memory_is_shown() -> None:
    timeline = Timeline()
    timeline.alloc(Allocation(30 * MIB, phase="load"))
    timeline.alloc(Allocation(20 * MIB, phase="forward"))
    said = words(timeline_svg(memory_curve(timeline, capacity_bytes=40 * MIB), "t", capacity_bytes=40 * MIB))
    assert "out of memory: 20.00 MiB asked for, 30.00 MiB reserved" in said


def test_live_lines_stand_below_largest_first_and_the_rest_is_summed() -> None:
    lines = [(f"train.py:{number}", number * MIB) for number in range(1, 15)]
    rows = words(timeline_svg(a_curve(), "t", live_lines=lines)).splitlines()
    at = rows.index("train.py:14")
    assert rows[at : at + 5] == ["train.py:14", "0.01 GiB", "0.0%", "train.py:13", "0.01 GiB"]
    assert rows[-3:] == ["2 more lines", "0.0029 GiB", "0.0%"]


def test_texts_are_escaped_and_the_picture_is_xml_whatever_they_hold() -> None:
    picture = timeline_svg(a_curve(), NASTY, live_lines=[(NASTY, MIB)])
    said = words(picture)
    assert said.count("</script><b>&\"'\ufffd\ufffd ]]> <!-- é") == 2
    assert "<b>" not in picture
    picture.encode("utf-8")


@pytest.mark.parametrize("title", ["", " " * 300, "x" * 300, "two\nlines"])
def test_any_title_will_do(title: str) -> None:
    root = ElementTree.fromstring(timeline_svg(a_curve(), title))
    assert root.findtext(f"{SVG}title", "") == " ".join(title.split())


def test_an_empty_timeline_has_a_picture_and_a_page() -> None:
    curve = memory_curve(Timeline())
    assert "no GPU memory was asked for" in words(timeline_svg(curve, "t"))
    assert page_data(timeline_html(curve, "t"))["positions"] == []


class Page(HTMLParser):
    """Tags, what they refer to, and the text of the scripts and table cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.cells: list[str] = []
        self.data = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = "data" if ("id", "data") in attrs else tag
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self._open == "data":
            self.data += data
        elif self._open == "td":
            self.cells.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def page_data(page: str) -> dict[str, object]:
    return json.loads(Page(page).data)


def test_the_page_carries_the_exact_curve() -> None:
    curve = a_curve()
    data = page_data(timeline_html(curve, "t"))
    assert data["positions"] == list(curve.positions)
    assert data["reserved"] == list(curve.reserved_bytes)
    assert {each["key"]: tuple(each["bytes"]) for each in data["categories"]} == curve.category_bytes  # type: ignore[attr-defined]
    assert data["peakPosition"] == curve.peak_allocated_position
    assert data["topBytes"] == Frame.of(curve, None).top_bytes


def test_the_page_asks_no_network_for_anything() -> None:
    page = timeline_html(a_curve(), "t", gpu_memory_bytes=48 * GIB)
    assert Page(page).references == []
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"'\s]*", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "@import" not in page and "url(http" not in page


def test_the_page_escapes_every_text() -> None:
    page = timeline_html(a_curve(), NASTY, live_lines=[(NASTY, MIB)])
    parsed = Page(page)
    assert "b" not in [tag for tag in parsed.tags if tag != "body"]
    assert parsed.tags.count("script") == 2
    assert "".join(parsed.cells[:1]).startswith("</script><b>&")
    page.encode("utf-8")


def test_a_script_cannot_be_ended_by_its_data() -> None:
    timeline = Timeline()
    timeline.alloc(Allocation(MIB, phase="</script><img>"))
    page = timeline_html(memory_curve(timeline), "t")
    assert page_data(page)["phases"] == [["</script><img>", 0, 1]]
    assert "img" not in Page(page).tags


@pytest.mark.parametrize("name", ["out.svg", "out.html", "OUT.SVG"])
def test_the_suffix_chooses_what_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old", encoding="utf-8")
    write_timeline(path, a_curve(), "t", gpu_memory_bytes=48 * GIB)
    writer = timeline_html if name.endswith("html") else timeline_svg
    assert path.read_text(encoding="utf-8") == writer(a_curve(), "t", gpu_memory_bytes=48 * GIB)
    assert list(tmp_path.iterdir()) == [path]
    assert curve_points(path) == (8000 if name.endswith("html") else 2000)


@pytest.mark.parametrize("name", ["out.png", "out", "missing/out.svg", "folder.svg"])
def test_a_file_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    for refuse in (check_timeline_path, curve_points, lambda path: write_timeline(path, a_curve(), "t")):
        with pytest.raises(InputError, match="timeline=") as caught:
            refuse(tmp_path / name)
        assert caught.value.field == "timeline"
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.svg"
    path.write_text("old", encoding="utf-8")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timeline_file.Path, "replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_timeline(path, a_curve(), "t")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    write_timeline(tmp_path / "out.svg", a_curve(), "t")
    assert (tmp_path / "out.svg").stat().st_mode == other.stat().st_mode


@given(st.integers(1, 10**15), st.integers(2, 12))
def test_steps_of_an_axis_are_round_and_not_too_many(largest: int, most: int) -> None:
    step = nice_step(largest, most)
    assert largest <= step * most * (1 + 1e-9)
    assert f"{step:.0e}"[0] in "125" and float(f"{step:.0e}") == pytest.approx(step)


@given(st.text(max_size=80), st.floats(30, 500))
def test_a_shortened_text_fits(text: str, width: float) -> None:
    short = shortened(text, width, 12)
    assert text_width(short, 12) <= max(width, 0) or len(short) <= 1
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_a_limit_without_a_size_says_nothing() -> None:
    assert (Limit(None, None).sentence(), Limit(None, None).nbytes) == ("", None)
    assert Limit(None, 3 * GIB).sentence() == "PyTorch may reserve 3.00 GiB"
