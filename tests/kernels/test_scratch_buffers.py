"""Scratch rules against numbers worked by hand, and what holds for all of them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import InputError
from vramcast.kernels import rule_arguments, scratch_buffers, scratch_rule, scratch_rules
from vramcast.kernels.attention_scratch import (
    cudnn_backward_buffers,
    efficient_backward_buffers,
    flash_backward_buffers,
)
from vramcast.kernels.embedding_scratch import embedding_backward_buffers
from vramcast.kernels.foreach_scratch import foreach_norm_buffers

GPT2 = {"batch_size": 8, "query_length": 1024, "num_heads": 12, "head_dim": 64, "dtype_bytes": 2}
NUM_BUFFERS = {
    "flash_attention_backward": 5,
    "efficient_attention_backward": 3,
    "cudnn_attention_backward": 1,
    "embedding_backward": 9,
    "foreach_norm": 1,
    "flash_attention_forward": 2,
}
SIZES = {
    "dtype_bytes": st.sampled_from([2, 4]),
    "copies_grad_out": st.integers(0, 1),
    "num_tensors": st.integers(0, 500),
}
"""Of the other arguments, small ones are likely to meet a bound and to be equal."""
OTHER = st.one_of(st.integers(1, 8), st.integers(1, 300), st.integers(3000, 3200))


@st.composite
def calls_of_one_rule(draw: st.DrawFn) -> tuple[str, list[dict[str, int]]]:
    rule = draw(st.sampled_from(scratch_rules()))
    arguments = {name: SIZES.get(name, OTHER) for name in rule_arguments(rule)}
    return rule, draw(st.lists(st.fixed_dictionaries(arguments), min_size=1, max_size=12))


def test_flash_backward_of_gpt2() -> None:
    """softmax_d: 4 * 8 * 12 * 1024; dq_accum: 4 * 8 * 1024 * 12 * 64; the copy of dO: 8 * 1024 * 12 * 64 * 2."""
    shape = {**GPT2, "key_length": 1024, "num_key_value_heads": 12}
    assert flash_backward_buffers(**shape, copies_grad_out=0) == (0, 393_216, 25_165_824, 0, 0)
    assert flash_backward_buffers(**shape, copies_grad_out=1) == (12_582_912, 393_216, 25_165_824, 0, 0)


def test_flash_backward_rounds_length_and_head_and_expands_grouped_heads() -> None:
    """T 100 -> 128, D 80 -> 96; dk and dv of 90 keys for 8 query heads: 2 * 90 * 8 * 80 * 2."""
    shape = {"batch_size": 2, "query_length": 100, "key_length": 90, "num_heads": 8, "dtype_bytes": 2}
    grouped = flash_backward_buffers(**shape, num_key_value_heads=2, head_dim=80, copies_grad_out=0)
    assert grouped == (0, 8_192, 786_432, 230_400, 230_400)
    for head_dim, rounded in ((192, 192), (193, 256), (200, 256), (256, 256)):
        wide = flash_backward_buffers(**shape, num_key_value_heads=8, head_dim=head_dim, copies_grad_out=0)
        assert wide[2:] == (4 * 2 * 128 * 8 * rounded, 0, 0)


def test_efficient_backward() -> None:
    """Half: delta and an accumulator in tiles; fp32: the product dO * O and delta."""
    assert efficient_backward_buffers(**GPT2) == (0, 393_216, 25_165_824)
    assert efficient_backward_buffers(**{**GPT2, "dtype_bytes": 4}) == (25_165_824, 393_216, 0)
    odd = {"batch_size": 1, "query_length": 65, "num_heads": 1, "head_dim": 40}
    assert efficient_backward_buffers(**odd, dtype_bytes=2) == (0, 260, 4 * 128 * 64)


def test_cudnn_backward() -> None:
    assert cudnn_backward_buffers(batch_size=8, query_length=1024, num_heads=12, head_dim=64) == (25_559_040,)


def test_embedding_backward() -> None:
    """16 384 tokens of a vocabulary of 50 257 at width 768: 1 638 + 16 384 partial rows."""
    buffers = embedding_backward_buffers(num_tokens=16_384, vocab_size=50_257, hidden_size=768)
    assert buffers[-1] == 55_363_584
    assert buffers[:5] == (131_072, 131_072, 131_072, 262_144, 131_072)
    assert buffers[-2] == 8 * 18_022
    assert embedding_backward_buffers(num_tokens=4000, vocab_size=100, hidden_size=8)[-1] == 4 * 8 * (400 + 100)


def test_embedding_backward_of_up_to_3072_tokens_takes_nothing() -> None:
    assert embedding_backward_buffers(num_tokens=3072, vocab_size=50_257, hidden_size=768) == (0,) * 9
    assert 0 not in embedding_backward_buffers(num_tokens=3073, vocab_size=50_257, hidden_size=768)


def test_foreach_norm() -> None:
    """One fp32 for each chunk of 65 536 elements of the largest tensor, for every tensor."""
    assert foreach_norm_buffers(num_tensors=3, tensor_elements=65_536) == (12,)
    assert foreach_norm_buffers(num_tensors=3, tensor_elements=65_537) == (24,)


@given(st.integers(1, 64), st.integers(1, 4096), st.integers(1, 32), st.integers(1, 256), st.sampled_from([2, 4]))
def test_buffers_grow_with_the_batch(batch: int, length: int, heads: int, head_dim: int, dtype_bytes: int) -> None:
    def both(batch_size: int) -> tuple[Any, ...]:
        shape = {
            "batch_size": batch_size,
            "query_length": length,
            "num_heads": heads,
            "head_dim": head_dim,
            "dtype_bytes": dtype_bytes,
        }
        return (
            *flash_backward_buffers(**shape, key_length=length, num_key_value_heads=1, copies_grad_out=1),
            *efficient_backward_buffers(**shape),
        )

    assert tuple(2 * nbytes for nbytes in both(batch)) == both(2 * batch)


@given(calls_of_one_rule())
def test_a_rule_has_the_same_number_of_buffers_at_every_size(calls: tuple[str, list[dict[str, int]]]) -> None:
    rule, cases = calls
    for case in cases:
        buffers = scratch_buffers(rule, case)
        assert len(buffers) == NUM_BUFFERS[rule]
        assert all(type(nbytes) is int and nbytes >= 0 for nbytes in buffers)


@given(calls_of_one_rule(), st.sets(st.integers(0, 7)))
def test_arrays_give_what_each_case_gives(calls: tuple[str, list[dict[str, int]]], fixed: set[int]) -> None:
    """With any of the arguments, but not all, left as ints."""
    rule, cases = calls
    kept = {name for place, name in enumerate(rule_arguments(rule)) if place in fixed}
    cases = [{**case, **{name: cases[0][name] for name in kept}} for case in cases]
    arrays = {
        name: cases[0][name] if name in kept else np.array([case[name] for case in cases], dtype=np.int64)
        for name in cases[0]
    }
    by_case = zip(*(scratch_buffers(rule, case) for case in cases), strict=True)
    for by_array, expected in zip(scratch_buffers(rule, arrays), by_case, strict=True):
        assert type(by_array) is int or by_array.dtype == np.int64
        assert kept or isinstance(by_array, np.ndarray)
        assert np.broadcast_to(by_array, len(cases)).tolist() == list(expected)


def test_unknown_rules_and_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"scratch rule='softmax'.*choose one of cudnn_attention_backward"):
        scratch_buffers("softmax", {})
    with pytest.raises(InputError, match=r"arguments of foreach_norm=.*'num_tensors'.*tensor_elements"):
        scratch_buffers("foreach_norm", {"num_tensors": 3})
    with pytest.raises(InputError, match="arguments of foreach_norm"):
        scratch_buffers("foreach_norm", {"num_tensors": 3, "tensor_elements": 5, "dtype_bytes": 4})


def test_a_second_rule_of_a_name_is_refused() -> None:
    before = scratch_rules()
    with pytest.raises(KeyError, match="foreach_norm is registered already"):
        scratch_rule("foreach_norm")(foreach_norm_buffers)
    assert scratch_rules() == before == tuple(NUM_BUFFERS)
