"""Layer loops: what two recordings of made-up sections fold into, unfolded to other numbers of layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import RecordingError
from vramcast.record.rolling import Folded, Ids, fold

REPETITIONS = 6

Section = list[tuple[int, list[int]]]
"""(how many more than the layers it is repeated; None in the form of -100 where it is plain, tokens)."""
PLAIN = -100


def laid_out(section: Section, layers: int) -> Ids:
    tokens: list[int] = []
    for more, piece in section:
        tokens += piece * (1 if more == PLAIN else layers + more)
    return np.array(tokens, dtype=np.int64)


def unfolded(folded: Folded, short: Ids, more: int) -> list[int]:
    tokens: list[int] = []
    before = folded.pieces(0)
    for piece, grown in zip(before, folded.pieces(more), strict=True):
        assert grown.start == len(tokens)
        tokens += short[piece.start : piece.start + piece.width].tolist() * grown.repetitions
    return tokens


@st.composite
def sections(draw: st.DrawFn) -> Section:
    """Plain pieces and loops in turn, each of tokens of its own, with repeated ones inside."""
    found: Section = []
    next_token = 0
    for _ in range(draw(st.integers(1, 6))):
        width = draw(st.integers(1, 6))
        tokens = [next_token + draw(st.integers(0, i)) for i in range(width)]
        tokens[-1] = next_token + width  # so that a piece is no repetition of something shorter
        next_token += width + 1
        found.append((draw(st.sampled_from([PLAIN, -1, 0, 0, 0])), tokens))
    return found


@given(sections())
def test_loops_hold_for_every_number_of_layers(section: Section) -> None:
    short, long = laid_out(section, REPETITIONS), laid_out(section, REPETITIONS + 1)
    folded = fold(short, long, REPETITIONS, "section")
    for layers in (REPETITIONS, REPETITIONS + 1, REPETITIONS + 5):
        assert unfolded(folded, short, layers - REPETITIONS) == laid_out(section, layers).tolist()


@given(sections())
def test_plain_pieces_are_no_loops(section: Section) -> None:
    folded = fold(laid_out(section, REPETITIONS), laid_out(section, REPETITIONS + 1), REPETITIONS, "section")
    assert len(folded.loops) == sum(more != PLAIN for more, _ in section)


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 2), max_size=35))
def test_anything_is_folded_exactly_or_refused(first: list[int], second: list[int]) -> None:
    short, long = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    try:
        folded = fold(short, long, REPETITIONS, "section")
    except RecordingError:
        return
    assert unfolded(folded, short, 1) == second


def test_equal_sections_have_no_loops() -> None:
    tokens = np.array([1, 2, 3, 1, 2, 3], dtype=np.int64)
    assert fold(tokens, tokens, REPETITIONS, "section").loops == []


def test_an_empty_section() -> None:
    empty = np.array([], dtype=np.int64)
    assert fold(empty, empty, REPETITIONS, "section").pieces(0) == []


@pytest.mark.parametrize(
    ("short", "long", "event"),
    [([1] * 6, [1] * 9, 6), ([1] * 6 + [2], [1] * 7 + [3], 6), ([1, 2, 3], [1, 2, 4], 2)],
)
def test_what_does_not_repeat_is_refused(short: list[int], long: list[int], event: int) -> None:
    with pytest.raises(RecordingError, match=f"after_forward: layers do not repeat; first difference at event {event}"):
        fold(np.array(short), np.array(long), REPETITIONS, "after_forward")
