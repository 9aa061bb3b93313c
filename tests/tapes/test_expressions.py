"""Formulas: their numbers, their text, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.tapes.expressions import DIMENSIONS, Expression, TapeError, product

LETTERS = sorted(DIMENSIONS)
ATOMS = st.sampled_from([*LETTERS, "T+1", "T-1", "S+3", "D/8", "D/2", "up32(T)", "up16(S-1)"])
EXPRESSIONS = st.builds(
    lambda coefficient, atoms: Expression(coefficient, tuple(sorted(atoms))),
    st.integers(0, 1000),
    st.lists(ATOMS, max_size=4),
)
NUMBERS = st.fixed_dictionaries({letter: st.integers(1, 50).map(lambda n: 8 * n) for letter in LETTERS})


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        (Expression(7), 7),
        (Expression(4, ("B", "T", "T")), 4 * 3 * 100 * 100),
        (Expression(2, ("B", "D/8")), 2 * 3 * 8),
        (Expression(1, ("T+1",)), 101),
        (Expression(1, ("T-2",)), 98),
        (Expression(4, ("up32(T)",)), 4 * 128),
        (Expression(1, ("up64(T+29)",)), 192),
        (Expression(0, ("V",)), 0),
    ],
)
def test_number(expression: Expression, number: int) -> None:
    assert expression.value({"B": 3, "T": 100, "D": 64, "V": 11}) == number


def test_a_fraction_that_does_not_divide_is_refused() -> None:
    with pytest.raises(TapeError, match="head dimension 63 is not a multiple of 8"):
        Expression(1, ("D/8",)).value({"D": 63})


@given(EXPRESSIONS, NUMBERS)
def test_arrays_give_the_same_numbers(expression: Expression, numbers: dict[str, int]) -> None:
    arrays = {letter: np.array([number, 2 * number], dtype=np.int64) for letter, number in numbers.items()}
    first, second = (
        expression.value(numbers),
        expression.value({letter: 2 * number for letter, number in numbers.items()}),
    )
    assert np.broadcast_to(expression.value(arrays), 2).tolist() == [first, second]


@given(st.lists(EXPRESSIONS, max_size=4), NUMBERS)
def test_a_product_is_the_product_of_the_numbers(expressions: list[Expression], numbers: dict[str, int]) -> None:
    expected = 1
    for expression in expressions:
        expected *= expression.value(numbers)
    assert product(expressions).value(numbers) == expected


@given(st.lists(EXPRESSIONS, max_size=4))
def test_products_do_not_depend_on_the_order(expressions: list[Expression]) -> None:
    assert product(expressions) == product(reversed(expressions))


@given(EXPRESSIONS)
def test_json_round_trip(expression: Expression) -> None:
    assert Expression.from_json(expression.to_json()) == expression


@pytest.mark.parametrize(
    "data",
    [[], ["T"], [True], [1.5], [1, "Q"], [1, "T*2"], [1, "up32T"], [1, "T)"], [1, "T/8+1"], [1, 3], [1, "up(T)"]],
)
def test_what_is_no_expression_is_refused(data: list[object]) -> None:
    with pytest.raises(TapeError):
        Expression.from_json(data)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Expression(4, ("B", "H", "T", "T")), "4·B·H·T²"),
        (Expression(16, ("B", "D/8")), "2·B·D"),
        (Expression(3, ("D/8",)), "3·(D/8)"),
        (Expression(1, ("T+1",)), "(T+1)"),
        (Expression(1, ("up32(T)",)), "up32(T)"),
        (Expression(1), "1"),
        (Expression(0, ("T",)), "0·T"),
    ],
)
def test_text(expression: Expression, text: str) -> None:
    assert str(expression) == text
