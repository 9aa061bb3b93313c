"""The peak as a formula, against the tape it is read off."""

import pytest

from vramcast.explain import PeakFormula, peak_formula
from vramcast.forecast.answer import training_answer
from vramcast.forecast.source import TapeSource
from vramcast.job import TrainingJob
from vramcast.tapes import BoundTape

CASES = {
    "plain": {"batch_size": 4, "sequence_length": 64},
    "accumulated": {"batch_size": 2, "sequence_length": 64, "gradient_accumulation_steps": 5},
}


@pytest.fixture(params=CASES)
def formula(request: pytest.FixtureRequest, tiny_gpt2: str) -> tuple[PeakFormula, BoundTape, int]:
    answer = training_answer(TrainingJob(model=tiny_gpt2, **CASES[request.param]))
    assert isinstance(answer.source, TapeSource)
    allocated = answer.forecast.peak_allocated_bytes
    return peak_formula(answer.source.bound, (8, 0), allocated, 128), answer.source.bound, allocated


def test_the_formula_is_the_peak(formula: tuple[PeakFormula, BoundTape, int]) -> None:
    found, bound, allocated = formula
    assert found.here.bytes == bound.peak_live_bytes() == sum(term.bytes for term in found.here.terms)
    assert found.here.bytes + found.unused_bytes == allocated
    assert found.unused_bytes >= 0


def test_terms_multiply_out(formula: tuple[PeakFormula, BoundTape, int]) -> None:
    found, bound, _ = formula
    values = {**{letter.letter: letter.value for letter in found.letters}}
    assert values["B"] == bound.values["B"]
    for winner in found.winners:
        for term in winner.sum.terms:
            assert term.bytes == term.count * term.each_bytes
            assert term.count == term.per_layer * bound.values["L"] + term.outside
            assert sum(holder.tensors for holder in term.holders) == term.count
            assert term.each_bytes % 512 == 0


def test_numbers_stand_for_letters(formula: tuple[PeakFormula, BoundTape, int]) -> None:
    found, _, _ = formula
    plain = [term for term in found.here.terms if term.numbers and "(" not in term.numbers and "²" not in term.numbers]
    assert plain
    for term in plain:
        product = 1
        for factor in term.numbers.split("·"):
            product *= int(factor)
        assert -(-product // 512) * 512 == term.each_bytes


def test_the_winner_here_comes_first_and_is_on_the_map(formula: tuple[PeakFormula, BoundTape, int]) -> None:
    found, bound, _ = formula
    row = found.batch_sizes.index(bound.values["B"])
    column = found.sequence_lengths.index(bound.values["T"])
    assert found.map[row][column] == 0
    assert found.winners[0].sum == found.here
    cells = [cell for line in found.map for cell in line]
    for rank, winner in enumerate(found.winners):
        assert winner.cells == cells.count(rank)
    # Batch size 1 takes another path, so the tape of this job does not hold there.
    assert found.map[found.batch_sizes.index(1)] == (None,) * len(found.sequence_lengths)


def test_weights_belong_to_layers(formula: tuple[PeakFormula, BoundTape, int]) -> None:
    found, bound, _ = formula
    weights = next(term for term in found.here.terms if term.size == "4·D·F·H")
    # Two matrices of the feed-forward: weights, two optimizer states, and gradients where they accumulate.
    per_layer = 6 if bound.micro_batches == 1 else 8
    assert (weights.per_layer, weights.outside, weights.count) == (per_layer, 0, per_layer * bound.values["L"])
