"""The peak as the largest of a few sums is the peak of all events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tapes import SIZES, VALUES, accumulating_tape, made_tape

from vramcast.tapes import BoundTape, Expression, Tape
from vramcast.tapes.binding import BLOCK
from vramcast.tapes.peak import live_sets
from vramcast.tapes.tape import AllocRow, FreeRow, Label, Place, Program, Section, Segment

DIMENSIONS = st.fixed_dictionaries(
    {letter: st.integers(1, 5000) for letter in "BTV"} | {"E": st.integers(1, 300), "U": st.just(0)}
)


def brute_force(tape: Tape, values: dict[str, int], micro_batches: int = 1) -> int:
    """Largest live sum after any event, one event after the other."""
    bound = BoundTape(tape, values, micro_batches)
    live = peak = 0
    for event in bound.unrolled.event_list:
        nbytes = bound.allocation_bytes[event if event >= 0 else ~event]
        live += (1 if event >= 0 else -1) * -(-nbytes // BLOCK) * BLOCK
        peak = max(peak, live)
    return peak


@given(DIMENSIONS, st.integers(1, 6))
def test_peak_of_a_job(values: dict[str, int], layers: int) -> None:
    tape, values = made_tape(), {**values, "L": layers}
    expected = brute_force(tape, values)
    assert live_sets(tape, layers).peak_bytes(values) == expected
    assert BoundTape(tape, values).peak_live_bytes() == expected


@given(DIMENSIONS, st.integers(2, 6))
def test_peak_with_gradient_accumulation(values: dict[str, int], micro_batches: int) -> None:
    tape, values = accumulating_tape(), {**values, "L": 2}
    assert live_sets(tape, 2, micro_batches).peak_bytes(values) == brute_force(tape, values, micro_batches)


@st.composite
def programs(draw: st.DrawFn) -> Tape:
    """Any order of births and deaths of sizes B, T, E and V in one section."""
    rows: list[AllocRow | FreeRow] = []
    alive: list[int] = []
    for _ in range(draw(st.integers(1, 40))):
        if alive and draw(st.booleans()):
            row = alive.pop(draw(st.integers(0, len(alive) - 1)))
            rows.append(FreeRow("own", 0, row, Place(1, 0, 0)))
        else:
            alive.append(len(rows))
            rows.append(AllocRow(draw(st.integers(0, 3)), 0, None))
    section = Section("after_step", (Segment(None, tuple(rows)),))
    label = Label("", "", "", "temporary", "", ())
    sizes = tuple(Expression(1, (letter,)) for letter in "BTEV")
    return made_tape(sizes=sizes, labels=(label,), sections=(section,), program=Program(0, (), ()))


@given(programs(), st.lists(DIMENSIONS, min_size=1, max_size=4))
def test_any_program_has_the_peak_of_its_sums(tape: Tape, cells: list[dict[str, int]]) -> None:
    sets = live_sets(tape, 1)
    for values in cells:
        assert sets.peak_bytes({**values, "L": 1}) == brute_force(tape, {**values, "L": 1})


@given(programs())
def test_no_sum_exceeds_another_in_every_count(tape: Tape) -> None:
    counts = live_sets(tape, 1).counts
    for i, row in enumerate(counts):
        assert not any((other >= row).all() for j, other in enumerate(counts) if i != j)


def test_a_grid_is_the_same_as_its_cells() -> None:
    tape, sets = made_tape(), live_sets(made_tape(), 3)
    batch_sizes, lengths = np.array([1, 2, 9, 400]), np.array([1, 7, 1024])
    grid = sets.peak_bytes({**VALUES, "B": batch_sizes[:, None], "T": lengths[None, :]})
    assert grid.shape == (4, 3)
    for i, batch_size in enumerate(batch_sizes.tolist()):
        for j, length in enumerate(lengths.tolist()):
            assert grid[i, j] == brute_force(tape, {**VALUES, "B": batch_size, "T": length})


@pytest.mark.parametrize(("length", "activations"), [(1, 1), (4096, 3)])
def test_the_winner_is_the_set_that_is_the_peak(length: int, activations: int) -> None:
    # Short sequences peak late in backward, when all gradients are there; long ones when all activations are.
    sets = live_sets(made_tape(), 3)
    values = {**VALUES, "T": length}
    winner = sets.winner(values)
    assert sets.counts[winner] @ np.array(sets.block_bytes(values)) == sets.peak_bytes(values)
    assert sets.counts[winner][sets.sizes.index(SIZES[1])] == activations
