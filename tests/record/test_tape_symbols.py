"""Numbers seen at two sets of dimensions become formulas, and only the right ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.models import load_model, preset_names
from vramcast.record.regimes import composite_letters, recording_values, symbol_values
from vramcast.record.symbols import Symbols, Unexplained
from vramcast.tapes.expressions import Expression, product

QUESTIONS = [(8, 1024), (1, 1024), (8, 1), (1, 1), (2, 8192)]
MODELS = ["gpt2", "llama-3-8b", "mistral-7b", "mixtral-8x7b", "gemma-2-9b", "starcoder", "phi-1.5", "tiny"]


def symbols_of(model: str, batch_size: int = 8, sequence_length: int = 1024) -> tuple[Symbols, list[dict[str, int]]]:
    config = load_model(model)
    letters = [symbol_values(config, values) for values in recording_values(config, batch_size, sequence_length)]
    return Symbols(letters[0], letters[1], composite=composite_letters(config)), letters


def solved(expression: Expression, symbols: Symbols, letters: list[dict[str, int]]) -> Expression:
    return symbols.solve(expression.value(letters[0]), expression.value(letters[1]))


@given(
    st.sampled_from(MODELS),
    st.sampled_from(QUESTIONS),
    st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 64, 100]),
    st.lists(st.integers(0, 20), max_size=5),
)
def test_a_product_of_dimensions_is_found(
    model: str, question: tuple[int, int], coefficient: int, chosen: list[int]
) -> None:
    symbols, letters = symbols_of(model, *question)
    names = [letter for letter in letters[0] if letters[0][letter] > 1]
    expression = Expression(coefficient, tuple(sorted(names[i % len(names)] for i in chosen)))
    found = solved(expression, symbols, letters)
    assert as_powers(found) == as_powers(expression)


def as_powers(expression: Expression) -> tuple[float, tuple[str, ...]]:
    """D/8 is an eighth of D."""
    divisors = [int(atom.partition("/")[2] or 1) for atom in expression.atoms]
    return expression.coefficient / math.prod(divisors), tuple(sorted(atom[0] for atom in expression.atoms))


@pytest.mark.parametrize(
    "expression",
    [
        Expression(4, ("B", "T+1")),
        Expression(8, ("B", "T-1", "V")),
        Expression(4, ("B", "H", "up32(T)")),
        Expression(2, ("T", "up16(T)")),
        Expression(4, ("D/8", "H", "T+1")),
        Expression(4, ("D/8", "H", "P+2")),
    ],
)
@pytest.mark.parametrize("question", [(8, 1024), (1, 1024)])
def test_shifted_and_padded_sizes_are_found(expression: Expression, question: tuple[int, int]) -> None:
    symbols, letters = symbols_of("gpt2", *question)
    expected = tuple(atom for atom in expression.atoms if atom != "B" or letters[0]["B"] > 1)
    assert as_powers(solved(expression, symbols, letters)) == as_powers(Expression(expression.coefficient, expected))


@given(st.integers(2, 10**9), st.integers(2, 10**9))
def test_what_is_found_is_right_at_both_dimensions(first: int, second: int) -> None:
    symbols, letters = symbols_of("llama-3-8b")
    try:
        found = symbols.solve(first, second)
    except Unexplained:
        return
    assert found.value(letters[0]) == first
    assert found.value(letters[1]) == second


@pytest.mark.parametrize(("first", "second"), [(0, 5), (43, 48), (-4, -4), (1000, 1001)])
def test_numbers_without_a_formula_are_refused(first: int, second: int) -> None:
    symbols, _ = symbols_of("gpt2")
    with pytest.raises(Unexplained, match=f"{first} at the first dimensions and {second} at the second"):
        symbols.solve(first, second)


def test_nothing_and_constants() -> None:
    symbols, _ = symbols_of("gpt2")
    assert symbols.solve(0, 0) == Expression(0)
    assert symbols.solve(48, 48) == Expression(48)
    assert symbols.solve_shape((43, 7), (47, 7)) == (Expression(1, ("B",)), Expression(7))


@pytest.mark.parametrize("model", preset_names())
@pytest.mark.parametrize("question", QUESTIONS)
def test_dimensions_of_a_set_are_told_apart(model: str, question: tuple[int, int]) -> None:
    """Each letter, and each pair of letters, is found as itself."""
    symbols, letters = symbols_of(model, *question)
    names = [letter for letter in letters[0] if letters[0][letter] > 1]
    for one in names:
        for two in names:
            expression = product([Expression(1, (one,)), Expression(1, (two,))])
            assert as_powers(solved(expression, symbols, letters)) == as_powers(expression)
