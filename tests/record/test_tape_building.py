"""Recordings of made-up programs become a tape that is the program at any size and any number of layers."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_programs import DEATHS, Program, Tensor

from vramcast.errors import RecordingError
from vramcast.record.operator_building import Recordings
from vramcast.record.references import StepLayout
from vramcast.record.symbols import Symbols
from vramcast.record.tape_building import TapeBuilder
from vramcast.record.tape_checking import TapeChecker
from vramcast.record.tape_recording import arranged, with_operators
from vramcast.tapes import BoundTape, Tape
from vramcast.timeline import Recording

FIRST = {"B": 43, "T": 101, "E": 31, "F": 61}
SECOND = {"B": 47, "T": 149, "E": 37, "F": 67}
THIRD = {"B": 8, "T": 256, "E": 64, "F": 96}
LAYERS = 6


def built(recordings: Recordings) -> Tape:
    layout = StepLayout(1)
    parts = TapeBuilder(recordings, Symbols(FIRST, SECOND), layout).build()
    sections, program = arranged(with_operators(parts, layout), layout)
    return Tape(
        key={},
        versions={},
        sizes=tuple(parts.sizes),
        labels=tuple(parts.labels),
        sections=sections,
        program=program,
        guards=(),
        parameter_tensors=parts.parameter_tensors,
        kernels={"mm": (5, 2)},
    )


def tape_of(program: Program) -> Tape:
    first, second, longer = (
        program.run(values, layers) for values, layers in ((FIRST, LAYERS), (SECOND, LAYERS), (FIRST, LAYERS + 1))
    )
    return built(Recordings(first, second, longer, LAYERS))


def literal_tape_of(program: Program, layers: int) -> Tape:
    first = program.run(FIRST, layers)
    return built(Recordings(first, program.run(SECOND, layers), first, layers))


def values_at(layers: int) -> dict[str, int]:
    return {**THIRD, "L": layers, "U": 0}


def checker(run: Callable[[int], Recording]) -> TapeChecker:
    return TapeChecker(run, values_at, (8, 0), 1)


TENSORS = st.builds(Tensor, st.sampled_from(["BTE", "BTF", "BTT", "BT", "B"]), st.sampled_from(DEATHS))
PROGRAMS = st.builds(
    Program, st.lists(TENSORS, min_size=1, max_size=5).map(tuple), states=st.integers(0, 2), waits=st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(PROGRAMS, st.integers(LAYERS, 20))
def test_the_tape_is_the_program_at_other_sizes_and_layers(program: Program, layers: int) -> None:
    recording = program.run(THIRD, layers)
    bound = BoundTape(tape_of(program), values_at(layers))
    assert bound.timeline() == recording.timeline
    assert bound.kernels() == recording.kernels
    assert bound.parameters == recording.parameters


@settings(max_examples=40, deadline=None)
@given(PROGRAMS)
def test_a_checked_tape_holds_from_its_fewest_layers_on(program: Program) -> None:
    tape = checker(lambda layers: program.run(THIRD, layers)).checked(tape_of(program), LAYERS)
    assert tape.certified[0] == values_at(tape.min_layers)
    for layers in range(tape.min_layers, LAYERS + 4):
        assert BoundTape(tape, values_at(layers)).timeline() == program.run(THIRD, layers).timeline


@settings(max_examples=40, deadline=None)
@given(PROGRAMS, st.integers(1, 5))
def test_few_layers_have_a_tape_without_loops(program: Program, layers: int) -> None:
    tape = checker(lambda count: program.run(THIRD, count)).checked_literally(literal_tape_of(program, layers), layers)
    assert (tape.min_layers, tape.max_layers) == (layers, layers)
    assert all(segment.repetitions is None for section in tape.sections for segment in section.segments)
    assert BoundTape(tape, values_at(layers)).timeline() == program.run(THIRD, layers).timeline


PLAIN = Program((Tensor("BTE", "backward"), Tensor("BTF", "next layer")))


def test_layers_are_folded() -> None:
    tape = tape_of(PLAIN)
    loops = [segment for section in tape.sections for segment in section.segments if segment.repetitions is not None]
    assert len(loops) >= 5
    rows = sum(len(segment.rows) for section in tape.sections for segment in section.segments)
    assert rows < 60
    assert tape.parameter_tensors == (0, 1)


@pytest.mark.parametrize("layers", [1, 2, 6, 8])
def test_another_program_is_noticed(layers: int) -> None:
    other = replace(PLAIN, tensors=(Tensor("BTE", "backward"), Tensor("BTF", "at once")))
    runs = {count: (other if count == layers else PLAIN) for count in range(1, 12)}
    check = checker(lambda count: runs[count].run(THIRD, count))
    if layers == 8:
        with pytest.raises(RecordingError, match=r"the tape is not the trace at .*L = 8"):
            check.checked(tape_of(PLAIN), LAYERS)
    else:
        fewest = check.checked(tape_of(PLAIN), LAYERS).min_layers
        assert fewest == {1: 2, 2: 3, 6: 2}[layers]


def changed_size(recording: Recording) -> Recording:
    recording.timeline.allocations[20].nbytes += 4
    return recording


def changed_kernels(recording: Recording) -> Recording:
    recording.kernels["mm"] += 1
    return recording


def changed_operators(recording: Recording) -> Recording:
    recording.section_operators[1] = recording.section_operators[0]
    return recording


@pytest.mark.parametrize("change", [changed_size, changed_kernels, changed_operators])
def test_anything_that_differs_is_noticed(change: Callable[[Recording], Recording]) -> None:
    check = checker(lambda layers: change(PLAIN.run(THIRD, layers)))
    with pytest.raises(RecordingError, match="the tape is not the trace at B = 8, T = 256"):
        check.checked(tape_of(PLAIN), LAYERS)


def test_other_sections_can_be_left_out() -> None:
    check = TapeChecker(
        lambda layers: changed_kernels(changed_operators(PLAIN.run(THIRD, layers))),
        values_at,
        (8, 0),
        1,
        ("after_load", "after_optimizer"),
    )
    assert check.checked(tape_of(PLAIN), LAYERS).min_layers == 2


def test_other_paths_at_other_sizes_are_refused() -> None:
    first, longer = PLAIN.run(FIRST, LAYERS), PLAIN.run(FIRST, LAYERS + 1)
    other = replace(PLAIN, tensors=(Tensor("BTE", "backward"), Tensor("BTF", "at once")))
    with pytest.raises(RecordingError, match=r"after_forward, event 2: .* at the second"):
        built(Recordings(first, other.run(SECOND, LAYERS), longer, LAYERS))


def test_a_size_without_a_formula_is_refused() -> None:
    first, longer = PLAIN.run(FIRST, LAYERS), PLAIN.run(FIRST, LAYERS + 1)
    odd = {**SECOND, "F": 68}
    with pytest.raises(RecordingError, match=r"no formula for a size of made in model\.layers\.0\.part"):
        built(Recordings(first, PLAIN.run(odd, LAYERS), longer, LAYERS))


def test_layers_that_do_not_repeat_are_refused() -> None:
    first, second = PLAIN.run(FIRST, LAYERS), PLAIN.run(SECOND, LAYERS)
    other = replace(PLAIN, tensors=(Tensor("BTE", "backward"), Tensor("BTF", "at once")))
    with pytest.raises(RecordingError, match="layers do not repeat"):
        built(Recordings(first, second, other.run(FIRST, LAYERS + 1), LAYERS))
