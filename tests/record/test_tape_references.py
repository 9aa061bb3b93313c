"""What a section calls another: the same words whatever the number of micro batches."""

import pytest

from vramcast.errors import RecordingError
from vramcast.record.references import StepLayout

ONE, FOUR = StepLayout(1), StepLayout(4)


@pytest.mark.parametrize(
    ("layout", "own", "target", "name"),
    [
        (ONE, 3, 3, "own"),
        (ONE, 4, 0, "load"),
        (ONE, 2, 1, "back 1"),
        (ONE, 4, 2, "back 2"),
        (ONE, 5, 3, "back 2"),
        (FOUR, 2, 1, "back 1"),
        (FOUR, 4, 3, "back 1"),
        (FOUR, 10, 8, "back 2"),
        (FOUR, 10, 2, "start 1"),
        (FOUR, 9, 1, "start 0"),
        (FOUR, 11, 2, "previous 1"),
        (FOUR, 12, 10, "back 2"),
    ],
)
def test_names(layout: StepLayout, own: int, target: int, name: str) -> None:
    assert layout.name_of(own, target) == name


@pytest.mark.parametrize(
    ("own", "target", "message"),
    [(25, 2, "outlives two optimizer steps"), (13, 5, "in the middle of a step dies much later")],
)
def test_lives_that_have_no_name_are_refused(own: int, target: int, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        FOUR.name_of(own, target)


def test_a_step_is_as_long_as_its_sections() -> None:
    assert (ONE.length, FOUR.length) == (4, 10)
