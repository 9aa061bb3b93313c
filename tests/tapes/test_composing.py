"""A model's tape and an optimizer's made into one."""

from dataclasses import replace

import pytest
from made_tapes import LOAD, ONCE, STATE, WEIGHT, loop, made_tape, make, once

from vramcast.kernels import AttentionCall, AttentionChoice
from vramcast.tapes.composing import as_other_half, check_separable, composed
from vramcast.tapes.expressions import Expression, TapeError
from vramcast.tapes.tape import AttentionGuard, FreeRow, Guard, Program, Section, Tape
from vramcast.tapes.unrolling import unroll

ABOVE_ONE = Guard(">", Expression(1, ("V",)), Expression(1))


def optimizer_tape(**changes: object) -> Tape:
    """A step that keeps two states for each parameter at first, and takes one buffer for a while later."""
    empty = Section("after_forward", ()), Section("after_backward", ()), Section("after_step", ())
    first = Section("after_optimizer", (loop(make(STATE), make(STATE)),))
    later = Section("after_optimizer", (once(make(STATE, None), FreeRow("own", 0, 0, ONCE)),))
    return made_tape(
        **{
            "key": {"part": "optimizer", "structure": {}, "optimizer": "made"},
            "sections": (LOAD, *empty, first, later),
            "program": Program(0, (1, 2, 4, 3), (1, 2, 5, 3)),
            "guards": (ABOVE_ONE,),
            **changes,
        }
    )


def test_the_optimizer_takes_the_place_of_the_models() -> None:
    model, optimizer = made_tape(), optimizer_tape()
    job = composed(model, optimizer)
    assert [name for _, name in unroll(job, 2).marks] == [name for _, name in unroll(model, 2).marks]
    states = unroll(job, 3).size[unroll(job, 3).size == len(model.sizes) + STATE]
    assert len(states) == 2 * 3 + 2
    assert (unroll(job, 3).size == STATE).sum() == 0
    assert (unroll(job, 3).size == WEIGHT).sum() == 0  # the optimizer's loading is the model's


def test_conditions_of_both_hold() -> None:
    model = made_tape(min_layers=2, max_layers=9)
    job = composed(model, optimizer_tape(min_layers=3, max_layers=None, assumptions=("made by hand", "another")))
    assert job.guards == (*model.guards, ABOVE_ONE)
    assert (job.min_layers, job.max_layers) == (3, 9)
    assert job.assumptions == ("made by hand", "another")
    assert job.key["part"] == "training" and job.key["optimizer"] == "made"
    assert job.certified == ()  # each was checked alone


def test_the_same_pair_is_composed_once() -> None:
    model, optimizer = made_tape(), optimizer_tape()
    assert composed(model, optimizer) is composed(model, optimizer)
    assert composed(model, optimizer) is not composed(model, optimizer_tape())


@pytest.mark.parametrize("section", ["load", "back 2"])
def test_an_optimizer_that_frees_what_it_did_not_make_is_refused(section: str) -> None:
    update = Section("after_optimizer", (once(FreeRow(section, 0, 0, ONCE)),))
    tape = optimizer_tape()
    sections = (*tape.sections[:5], update)
    with pytest.raises(TapeError, match="after_optimizer: something lives from one part"):
        check_separable(replace(tape, sections=sections))
    with pytest.raises(TapeError):
        composed(made_tape(), replace(tape, sections=sections))


def test_a_model_that_frees_a_parameter_is_refused() -> None:
    forward = Section("after_forward", (once(FreeRow("load", 0, 0, ONCE)),))
    with pytest.raises(TapeError, match="after_forward"):
        check_separable(made_tape(sections=(LOAD, forward), program=Program(0, (1,), (1,))))


def test_the_other_half_has_other_names_and_the_same_sizes() -> None:
    call = AttentionCall("bfloat16", 4, 8, 8, 2, 2, 8, 8, False, False, True, 0.0, True, False)
    choice = AttentionChoice(call, frozenset({"flash"}), False, "flash")
    model = made_tape()
    labels = tuple(label._replace(dtype="bfloat16") for label in model.labels)
    half = replace(model, labels=labels, key={"weights": "bf16", "n": 1}, attention=(AttentionGuard(choice, ()),))
    other = as_other_half(half)
    assert {label.dtype for label in other.labels} == {"float16"}
    assert other.key == {"weights": "fp16", "n": 1}
    assert other.attention[0].choice.call.dtype == "float16"
    assert (other.sizes, other.guards, other.program) == (half.sizes, half.guards, half.program)
    assert [section.segments for section in other.sections] == [section.segments for section in half.sections]
