"""Small dimensions to record at: on the question's side of everything that decides a path."""

from math import gcd
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import RecordingError
from vramcast.models import ModelConfig, load_model, model_from_fields, preset_names
from vramcast.record.regimes import (
    MASK_ALIGNMENT,
    alignment_of,
    checking_values,
    config_at,
    guards,
    recording_values,
    size_guards,
    symbol_values,
)
from vramcast.tapes.dimensions import model_values
from vramcast.tapes.expressions import Expression
from vramcast.tapes.tape import Guard

LENGTHS = [1, 2, 17, 1024, 4095, 4096, 4097, 4112]


def all_sets(config: ModelConfig, batch_size: int, length: int) -> list[dict[str, int]]:
    return [*recording_values(config, batch_size, length), checking_values(config, batch_size, length)]


@pytest.mark.parametrize("model", preset_names())
def test_the_question_and_all_sets_meet_the_conditions(model: str) -> None:
    config = load_model(model)
    for batch_size in (1, 8):
        for length in LENGTHS:
            sets = all_sets(config, batch_size, length)
            conditions = guards(config, sets[0])
            asked = {**model_values(config), "B": batch_size, "T": length}
            at_small = [
                {**model_values(config_at(config, values, 6)), "B": values["B"], "T": values["T"]} for values in sets
            ]
            for values in (asked, *at_small):
                assert [str(condition) for condition in conditions if not condition.holds(values)] == []


def llama(**fields: Any) -> ModelConfig:
    base = {
        "model_type": "mistral",
        "num_hidden_layers": 6,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 128,
        "vocab_size": 1000,
        "max_position_embeddings": 4096,
        "sliding_window": None,
    }
    return model_from_fields({**base, **fields}, name="llama", source="file", origin="test")


@given(
    st.integers(2, 400), st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 300), st.booleans()
)
def test_any_widths_meet_the_conditions(
    head_dim: int, groups: int, per_group: int, batch_size: int, length: int, has_window: bool
) -> None:
    config = llama(
        head_dim=head_dim,
        num_key_value_heads=groups,
        num_attention_heads=groups * per_group,
        hidden_size=24 * groups * per_group,
        sliding_window=100 if has_window else None,
    )
    sets = all_sets(config, batch_size, length)
    asked = {**model_values(config), "B": batch_size, "T": length}
    assert all(condition.holds(asked) for condition in guards(config, sets[0]))
    assert guards(config, sets[0]) == guards(config, sets[1]) == guards(config, sets[2])
    assert all((values["D"] <= 192) == (head_dim <= 192) for values in sets)
    assert all((values["D"] <= 224) == (head_dim <= 224) for values in sets)


@given(st.integers(2, 400), st.integers(1, 300), st.integers(1, 5))
def test_dimensions_of_a_recording_share_no_factor_but_two(head_dim: int, length: int, batch_size: int) -> None:
    config = llama(head_dim=head_dim, sliding_window=100)
    for values in recording_values(config, batch_size, length):
        letters = {name: value for name, value in symbol_values(config, values).items() if name not in "EPW"}
        odd = {name: value // (value & -value) for name, value in letters.items()}
        for one in odd:
            for two in odd:
                assert one == two or gcd(odd[one], odd[two]) == 1, (one, two)


def holds(model: ModelConfig, recorded: tuple[int, int], asked: tuple[ModelConfig, int, int]) -> bool:
    conditions = guards(model, recording_values(model, *recorded)[0])
    config, batch_size, length = asked
    values = {**model_values(config), "B": batch_size, "T": length}
    return all(condition.holds(values) for condition in conditions)


def test_shared_heads_and_own_heads_are_told_apart() -> None:
    own = llama(num_key_value_heads=4)
    shared = llama(num_key_value_heads=2)
    assert not holds(own, (8, 64), (shared, 8, 64))
    assert not holds(shared, (8, 64), (own, 8, 64))
    assert holds(own, (8, 64), (llama(num_attention_heads=16, num_key_value_heads=16), 3, 1000))


@pytest.mark.parametrize("ones", [{"num_key_value_heads": 1}, {"num_attention_heads": 1, "num_key_value_heads": 1}])
def test_a_dimension_of_one_is_told_apart(ones: dict[str, int]) -> None:
    assert not holds(llama(**ones), (8, 64), (llama(), 8, 64))
    assert not holds(llama(), (8, 64), (llama(**ones), 8, 64))
    assert not holds(llama(), (8, 64), (llama(), 1, 64))
    assert not holds(llama(), (1, 64), (llama(), 8, 64))
    assert not holds(llama(), (8, 64), (llama(), 8, 1))


@pytest.mark.parametrize(("length", "same_path"), [(1008, True), (1000, False), (992, True), (99, False), (1, False)])
def test_a_window_tells_long_from_short_and_aligned_from_not(length: int, same_path: bool) -> None:
    windowed = llama(sliding_window=100)
    assert holds(windowed, (8, 64 * MASK_ALIGNMENT), (windowed, 8, length)) == same_path


def test_without_a_window_any_length_is_alike() -> None:
    assert holds(llama(), (8, 64), (llama(), 8, 12_345))


@pytest.mark.parametrize(("size", "alignment"), [(1, 1), (7, 1), (6, 2), (12, 4), (8, 8), (48, 8)])
def test_alignment(size: int, alignment: int) -> None:
    assert alignment_of(size) == alignment


def test_there_are_enough_tokens_for_every_kernel() -> None:
    """The backward of an embedding takes no buffers up to 3072 tokens, and those must be on the tape."""
    for batch_size, length in ((1, 5), (8, 1), (8, 5)):
        for values in recording_values(llama(), batch_size, length):
            assert values["B"] * values["T"] > 3072


def test_an_optimizer_asks_for_sizes_alone() -> None:
    conditions = size_guards(guards(llama(sliding_window=8), recording_values(llama(sliding_window=8), 1, 64)[0]))
    assert {letter for guard in conditions for letter in guard.left.atoms} == set("KGDFEV")
    assert Guard(">", Expression(1, ("K",)), Expression(1)) in conditions


def test_rotary_embeddings_that_look_at_the_length_are_refused() -> None:
    config = llama(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    with pytest.raises(RecordingError, match="'dynamic' looks at the length"):
        recording_values(config, 8, 64)
