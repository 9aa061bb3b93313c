"""Recordings cut into sections of tokens: equal for what does the same, whichever layer or allocation it is."""

import pytest

from vramcast.errors import RecordingError
from vramcast.record.tokens import PER_PARAMETER_TENSOR, per_tensor, split_layer, token_stream
from vramcast.timeline import Allocation, Event, EventKind, Recording, Timeline
from vramcast.timeline.events import ScratchCall


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("model.layers.12.self_attn", ("model.layers.*.self_attn", 12)),
        ("transformer.h.0", ("transformer.h.*", 0)),
        ("model.layers.3.experts.7", ("model.layers.*.experts.7", 3)),
        ("lm_head", ("lm_head", -1)),
        ("block2.norm", ("block2.norm", -1)),
        ("", ("", -1)),
    ],
)
def test_layers_in_paths(path: str, parts: tuple[str, int]) -> None:
    assert split_layer(path) == parts


def recorded(*allocations: Allocation) -> Recording:
    timeline = Timeline()
    indices = [timeline.alloc(allocation) for allocation in allocations]
    timeline.mark("after_load")
    for index in indices:
        timeline.free(index)
    timeline.mark("after_step")
    return Recording(timeline=timeline, parameters=0, flops_per_step=0)


def made(module: str, nbytes: int = 4, **fields: object) -> Allocation:
    return Allocation(nbytes, 0, "activations", "forward", module, "mm", "float32", (1,), **fields)  # type: ignore[arg-type]


def test_equal_layers_give_equal_tokens() -> None:
    stream = token_stream(recorded(made("layers.0.mlp"), made("layers.1.mlp"), made("layers.1.norm")), 0)
    births, deaths = ([token.key for token in section.tokens] for section in stream.sections)
    assert births[0] == births[1] != births[2]
    assert deaths[0] == deaths[1] != births[0]
    assert stream.birthplace == {0: (0, 0), 1: (0, 1), 2: (0, 2)}
    assert [section.mark for section in stream.sections] == ["after_load", "after_step"]


def test_another_size_is_another_token() -> None:
    stream = token_stream(recorded(made("layers.0"), made("layers.1", 8)), 0)
    assert stream.sections[0].tokens[0].key != stream.sections[0].tokens[1].key


def test_lists_of_parameter_tensors_do_not_count_their_length() -> None:
    assert per_tensor((12,), 12) == (PER_PARAMETER_TENSOR,)
    assert per_tensor((12, 1), 12) == (12, 1)
    keys = []
    for count in (12, 14):
        norms = Allocation(4 * count, 0, "temporary", "optimizer", "", "stack", "float32", (count,))
        scratch = ScratchCall("foreach_norm", (("num_tensors", count), ("tensor_elements", (7,))), 0)
        partial = Allocation(4 * count, 0, "temporary", "optimizer", "", "_foreach_norm", scratch=scratch)
        stream = token_stream(recorded(norms, partial), count)
        keys.append([token.key for token in stream.sections[0].tokens])
    assert keys[0] == keys[1]


def test_events_that_a_tape_cannot_hold_are_refused() -> None:
    recording = recorded()
    recording.timeline.events.insert(0, Event(EventKind.EMPTY_CACHE))
    with pytest.raises(RecordingError, match="no event of kind EMPTY_CACHE"):
        token_stream(recording, 0)


def test_a_recording_ends_with_a_mark() -> None:
    recording = recorded()
    recording.timeline.alloc(made(""))
    with pytest.raises(RecordingError, match="must end with a mark"):
        token_stream(recording, 0)
