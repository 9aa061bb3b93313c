"""Live sums with open batch size and sequence length, and where on a grid a tape holds, against one cell after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tapes import SIZES, VALUES, accumulating_tape, made_tape

from vramcast.kernels import AttentionCall, AttentionChoice
from vramcast.tapes import BoundTape, Expression, Tape, why_not
from vramcast.tapes.folding import folded
from vramcast.tapes.holding import holds_on_grid
from vramcast.tapes.peak import live_sets, necessary
from vramcast.tapes.tape import AllocRow, AttentionGuard, FreeRow, Guard, Label, Place, Program, Section, Segment

OPEN_SIZES = (
    Expression(4, ("E", "E")),
    Expression(512, ("B", "T")),
    Expression(4, ("B", "E", "T")),
    Expression(1, ("B", "up32(T)")),
    Expression(8, ("B", "T+1")),
    Expression(4, ("T", "T")),
    SIZES[3],
    Expression(4, ("V",)),
)
MANY_BLOCKS, ROUNDED = {"E": 128, "V": 10}, {"E": 3, "V": 7}


@st.composite
def programs(draw: st.DrawFn) -> Tape:
    """Any order of births and deaths of these sizes in one section."""
    rows: list[AllocRow | FreeRow] = []
    alive: list[int] = []
    for _ in range(draw(st.integers(1, 40))):
        if alive and draw(st.booleans()):
            row = alive.pop(draw(st.integers(0, len(alive) - 1)))
            rows.append(FreeRow("own", 0, row, Place(1, 0, 0)))
        else:
            alive.append(len(rows))
            rows.append(AllocRow(draw(st.integers(0, len(OPEN_SIZES) - 1)), 0, None))
    section = Section("after_step", (Segment(None, tuple(rows)),))
    label = Label("", "", "", "temporary", "", ())
    return made_tape(sizes=OPEN_SIZES, labels=(label,), sections=(section,), program=Program(0, (), ()))


def peak_of(tape: Tape, values: dict[str, int], batch_size: int, length: int, micro_batches: int = 1) -> int:
    return BoundTape(tape, {**values, "B": batch_size, "T": length}, micro_batches).peak_live_bytes()


@settings(deadline=None)
@given(
    programs(),
    st.sampled_from([MANY_BLOCKS, ROUNDED]),
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=5),
)
def test_any_program_has_the_peak_of_its_folded_sums(
    tape: Tape, sizes: dict[str, int], cells: list[tuple[int, int]]
) -> None:
    values = {**VALUES, **sizes, "L": 1}
    sums = folded(live_sets(tape, 1), values)
    expected = [peak_of(tape, values, *cell) for cell in cells]
    assert [sums.peak_bytes(*cell) for cell in cells] == expected
    batch_sizes, lengths = np.array(cells).T
    assert sums.peaks_bytes(batch_sizes, lengths).tolist() == expected


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 300), st.integers(1, 3000), st.integers(1, 3000))
def test_peak_of_a_job(layers: int, hidden: int, batch_size: int, length: int) -> None:
    tape, values = made_tape(), {**VALUES, "L": layers, "E": hidden}
    peak = folded(live_sets(tape, layers), values).peak_bytes(batch_size, length)
    assert peak == peak_of(tape, values, batch_size, length)


@pytest.mark.parametrize("micro_batches", [2, 3, 5])
def test_peak_with_gradient_accumulation(micro_batches: int) -> None:
    tape = accumulating_tape()
    sums = folded(live_sets(tape, 3, micro_batches), VALUES)
    for cell in ((1, 1), (7, 33), (400, 2048)):
        assert sums.peak_bytes(*cell) == peak_of(tape, VALUES, *cell, micro_batches)


def test_a_peak_beyond_all_memory_is_exact_too() -> None:
    batch_size, length = 10**7, 10**8
    peak = folded(live_sets(made_tape(), 3), VALUES).peak_bytes(batch_size, length)
    assert peak > 2**53
    weights, states, gradient, loss = 3 * 1024, 3 * 2048, 1024, 512
    assert peak == weights + states + gradient + loss + 3 * 2 * 16 * batch_size * length


def test_sums_of_one_layer_after_the_other_are_left_out() -> None:
    # Layer by layer, activations are freed and gradients made: only the first and the last can be the peak.
    many, few = (len(live_sets(made_tape(), layers).counts) for layers in (40, 4))
    assert many == few


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=30),
    st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), min_size=1, max_size=20),
)
def test_rows_that_are_left_out_are_never_the_largest_alone(rows: list[list[int]], values: list[list[int]]) -> None:
    table, columns = np.array(rows), np.array(values).T
    kept = necessary(table)
    assert sorted(set(kept.tolist())) == kept.tolist()
    assert ((table[kept] @ columns).max(axis=0) == (table @ columns).max(axis=0)).all()


ATTENTION = AttentionCall(
    dtype="float32",
    dimensions=4,
    query_length=8,
    key_length=8,
    num_heads=2,
    num_key_value_heads=2,
    head_dim=8,
    value_head_dim=8,
    has_mask=True,
    mask_requires_grad=False,
    is_causal=False,
    dropout=0.0,
    requires_grad=True,
    enable_gqa=False,
    last_strides_are_one=True,
)


def attention_guard(backend: str) -> AttentionGuard:
    choice = AttentionChoice(ATTENTION, frozenset({"flash", "efficient", "math"}), False, backend)
    sizes = (("query_length", Expression(1, ("T",))), ("key_length", Expression(1, ("T",))))
    return AttentionGuard(choice, sizes)


@pytest.mark.parametrize(
    "guards",
    [
        (),
        (Guard(">", Expression(1, ("B",)), Expression(1)),),
        (Guard("multiple of", Expression(1, ("T",)), Expression(16)),),
        (Guard("<", Expression(1, ("B", "T")), Expression(100)), Guard(">", Expression(1, ("B",)), Expression(2))),
        (Guard("==", Expression(1, ("E",)), Expression(17)),),
    ],
)
@pytest.mark.parametrize("attention", [(), (attention_guard("efficient"),), (attention_guard("math"),)])
def test_a_tape_holds_on_a_grid_where_it_holds_cell_by_cell(
    guards: tuple[Guard, ...], attention: tuple[AttentionGuard, ...]
) -> None:
    tape = made_tape(guards=guards, attention=attention)
    batch_sizes, lengths = [1, 2, 3, 8], [1, 8, 12, 16, 64]
    holds = holds_on_grid(tape, VALUES, (8, 0), batch_sizes, lengths)
    assert holds.tolist() == [
        [why_not(tape, {**VALUES, "B": batch_size, "T": length}, (8, 0)) is None for length in lengths]
        for batch_size in batch_sizes
    ]
