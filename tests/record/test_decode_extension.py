import subprocess
import sys

import pytest
from decode_programs import Program, without_marks
from hypothesis import given, settings
from hypothesis import strategies as st

from vramcast.errors import RecordingError
from vramcast.record.decode_unrolling import DIRECT_STEPS, unroll_generation
from vramcast.timeline.decode import AFTER_DECODE, extended_timeline


def unrolled_equals_whole(program: Program, prompt_length: int, max_new_tokens: int) -> bool:
    unrolled = unroll_generation(program.run, prompt_length, max_new_tokens)
    assert unrolled.decode is not None
    timeline = extended_timeline(unrolled.timeline, unrolled.decode)
    whole = program.run(prompt_length, max_new_tokens).timeline
    return timeline.allocations == whole.allocations and without_marks(timeline) == without_marks(whole)


@settings(max_examples=60, deadline=None)
@given(
    layers=st.integers(1, 3),
    token_bytes=st.integers(1, 4096),
    prompt_length=st.integers(1, 90),
    max_new_tokens=st.integers(DIRECT_STEPS + 2, 300),
    window=st.none() | st.integers(1, 300),
)
def test_an_unrolled_generation_is_the_whole_generation_event_by_event(
    layers: int, token_bytes: int, prompt_length: int, max_new_tokens: int, window: int | None
) -> None:
    program = Program(layers, token_bytes, window)
    assert unrolled_equals_whole(program, prompt_length, max_new_tokens)


@pytest.mark.parametrize("multiple", [8, 16])
@pytest.mark.parametrize("prompt_length", [1, 15, 16])
def test_padding_to_a_multiple_is_followed_step_by_step_of_its_period(multiple: int, prompt_length: int) -> None:
    assert unrolled_equals_whole(Program(mask_multiple=multiple), prompt_length, 700)


def test_a_padded_mask_is_settled_by_sixteen_templates() -> None:
    decode = unroll_generation(Program(mask_multiple=16).run, 5, 700).decode
    assert decode is not None
    assert {len(segment.templates) for segment in decode.segments} == {16}
    assert not decode.segments[0].templates[0].events == decode.segments[0].templates[8].events


def test_a_plain_generation_is_one_template() -> None:
    decode = unroll_generation(Program().run, 5, 1000).decode
    assert decode is not None
    (segment,) = decode.segments
    assert (segment.first_step, segment.last_step, len(segment.templates)) == (3, 999, 1)
    assert decode.num_steps == 997
    assert decode.num_events == 997 * len(segment.templates[0].events) + len(decode.tail.events)


def test_steps_that_follow_no_rule_are_refused_by_the_name_of_the_event() -> None:
    program = Program(token_noise=(0, 3, 1, 4, 1, 5, 9))
    with pytest.raises(RecordingError, match="argmax"):
        unroll_generation(program.run, 5, 2000)


def test_a_short_generation_is_recorded_whole() -> None:
    unrolled = unroll_generation(Program().run, 5, DIRECT_STEPS + 1)
    assert unrolled.decode is None
    assert unrolled.timeline == Program().run(5, DIRECT_STEPS + 1).timeline


def test_the_end_of_the_last_step_is_marked() -> None:
    unrolled = unroll_generation(Program().run, 5, 40)
    assert unrolled.decode is not None
    assert extended_timeline(unrolled.timeline, unrolled.decode).marks[-1] == AFTER_DECODE


def test_extending_and_replaying_needs_no_torch() -> None:
    modules = "vramcast.allocator.decode_replay, vramcast.record.decode_unrolling"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
