"""Layers and micro batches laid out, against events worked out by hand."""

import pytest
from made_tapes import (
    ACTIVATION,
    BACKWARD,
    END,
    FORWARD,
    GRADIENT,
    LOAD,
    LOSS,
    ONCE,
    OWN,
    SCRATCH,
    STATE,
    WEIGHT,
    accumulating_tape,
    label,
    loop,
    made_tape,
    once,
)

from vramcast.tapes.expressions import TapeError
from vramcast.tapes.tape import AllocRow, FreeRow, Place, Program, Section, Segment, Tape
from vramcast.tapes.unrolling import NO_LAYER, UnrolledTape, section_order, steady_sections, unroll


def in_words(unrolled: UnrolledTape) -> list[str]:
    """Each event as +kind or -kind with its layer."""
    names = {WEIGHT: "w", ACTIVATION: "a", LOSS: "loss", SCRATCH: "s", GRADIENT: "g", STATE: "o"}

    def word(event: int) -> str:
        allocation = event if event >= 0 else ~event
        layer = int(unrolled.layer[allocation])
        return (
            ("+" if event >= 0 else "-") + names[int(unrolled.size[allocation])] + ("" if layer == -1 else str(layer))
        )

    return [word(event) for event in unrolled.event_list]


def test_forward_and_backward_walk_the_layers_in_opposite_directions() -> None:
    words = in_words(unroll(made_tape(), 3))
    first_step = "+a0 +a1 +a2 +loss +g2 -a2 +g1 -a1 +g0 -a0 +s -s -loss +o0 +o1 +o2 -g0 -g1 -g2"
    later_step = first_step.replace("+o0 +o1 +o2 ", "")
    assert words == f"+w0 +w1 +w2 {first_step} {later_step} {later_step}".split()


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_every_tensor_but_weights_and_states_dies(layers: int) -> None:
    unrolled = unroll(made_tape(), layers)
    alive: set[int] = set()
    for event in unrolled.event_list:
        if event >= 0:
            assert event not in alive
            alive.add(event)
        else:
            alive.remove(~event)
    assert sorted(int(unrolled.size[allocation]) for allocation in alive) == [WEIGHT] * layers + [STATE] * layers


def test_marks_stand_after_the_events_of_their_section() -> None:
    unrolled = unroll(made_tape(), 2)
    assert [name for _, name in unrolled.marks] == [
        "after_load",
        *["after_forward", "after_backward", "after_optimizer", "after_step"] * 3,
    ]
    assert [position for position, _ in unrolled.marks][:5] == [2, 5, 12, 14, 16]
    assert [position for position, _ in unrolled.others] == [5, 19, 31]


@pytest.mark.parametrize("micro_batches", [2, 3, 4, 9])
def test_micro_batches_add_to_the_gradients_of_the_first(micro_batches: int) -> None:
    unrolled = unroll(accumulating_tape(), 2, micro_batches)
    words = in_words(unrolled)
    first = "+a0 +a1 +loss +g1 -a1 +g0 -a0 +s -s -loss".split()
    more = "+a0 +a1 +loss -a1 -a0 -loss".split()
    end = "-g0 -g1".split()
    step = first + (micro_batches - 1) * more
    assert words == ["+w0", "+w1", *step, "+o0", "+o1", *end, *step, *end, *step, *end]
    assert [name for _, name in unrolled.marks].count("after_backward") == 3 * micro_batches


def test_order_of_sections() -> None:
    program = accumulating_tape().program
    order, starts = section_order(program, 3)
    assert order == [0, *program.first, *program.steady, *program.steady]
    assert starts == [0, *[1] * 8, *[9] * 8, *[17] * 8]
    assert steady_sections(program, 2) == [1, 2, 1, 6, 4, 5]
    assert steady_sections(program, 4) == [1, 2, 1, 6, 1, 6, 1, 6, 4, 5]


def test_a_repetition_beside_a_loop_is_the_plain_rows_beside_it() -> None:
    first = AllocRow(ACTIVATION, ACTIVATION, Place(0, 0, 0))
    forward = Section(
        "after_forward",
        (
            once(first),
            Segment(-1, (AllocRow(ACTIVATION, ACTIVATION, Place(1, 0, 1)),)),
            once(AllocRow(LOSS, LOSS, None)),
        ),
    )
    backward = Section(
        "after_backward",
        (Segment(0, (FreeRow("back 1", 1, 0, Place(-1, 1, 0)),)), once(FreeRow("back 1", 2, 0, ONCE))),
    )
    tape = made_tape(
        sections=(LOAD, forward, backward, Section("after_step", ())), program=Program(0, (1, 2, 3), (1, 2, 3))
    )
    assert in_words(unroll(tape, 3))[3:10] == "+a0 +a1 +a2 +loss -a2 -a1 -a0".split()


def test_layers_of_a_pattern_of_two() -> None:
    forward = Section("after_forward", (loop(AllocRow(0, 0, Place(1, 0, 0)), AllocRow(1, 1, Place(1, 0, 1))),))
    tape = made_tape(sections=(forward,), program=Program(0, (), ()), layers_per_repetition=2, layers_left_over=1)
    assert unroll(tape, 7).layer.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(TapeError, match="6 layers are not a whole number of patterns of 2"):
        unroll(tape, 6)


@pytest.mark.parametrize(("fewest", "most", "layers"), [(3, None, 2), (1, 4, 5)])
def test_other_numbers_of_layers_are_refused(fewest: int, most: int | None, layers: int) -> None:
    with pytest.raises(TapeError, match=f"not for {layers}"):
        unroll(made_tape(min_layers=fewest, max_layers=most), layers)


def test_fewer_repetitions_than_a_loop_lacks_are_refused() -> None:
    forward = Section("after_forward", (Segment(-3, FORWARD.segments[0].rows),))
    with pytest.raises(TapeError, match="after_forward needs more"):
        unroll(made_tape(sections=(forward,), program=Program(0, (), ())), 2)


def with_death(row: FreeRow) -> Tape:
    backward = Section("after_backward", (*BACKWARD.segments, once(row)))
    tape = made_tape()
    return made_tape(sections=(*tape.sections[:2], backward, *tape.sections[3:-1], END))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (FreeRow("back 9", 0, 0, ONCE), "a section that is not there"),
        (FreeRow("back 1", 7, 0, ONCE), "a segment that is not there"),
        (FreeRow("back 1", 1, 5, ONCE), "a row that is not there"),
        (FreeRow("back 1", 0, 0, Place(1, 0, -4)), "a row that is not there"),
        (FreeRow("own", 0, 0, ONCE), "a row that makes nothing"),
    ],
)
def test_a_death_that_names_nothing_is_refused(row: FreeRow, message: str) -> None:
    with pytest.raises(TapeError, match=message):
        unroll(with_death(row), 2)


def test_the_same_object_comes_back() -> None:
    tape = made_tape()
    assert unroll(tape, 2) is unroll(tape, 2)
    assert unroll(tape, 2) is not unroll(made_tape(), 2)


def test_allocations_outside_of_layers_have_none() -> None:
    unrolled = unroll(made_tape(), 2)
    losses = unrolled.size == LOSS
    assert (unrolled.layer[losses] == NO_LAYER).all()
    assert label("mm", "activations", "forward").module == "layers.*"
    assert OWN.at(2, 5) == 2
