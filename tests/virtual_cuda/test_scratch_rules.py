"""Scratch rules against numbers worked by hand, and how they enter the timeline."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from virtual_gpu_helpers import allocated, virtual_gpu

from vramcast.virtual_cuda.scratch import registry, scratch_rule
from vramcast.virtual_cuda.scratch.attention import (
    cudnn_backward_buffers,
    efficient_backward_buffers,
    flash_backward_buffers,
)
from vramcast.virtual_cuda.scratch.embedding import embedding_backward_buffers
from vramcast.virtual_cuda.scratch.foreach import foreach_norm_buffers

GPT2 = {"batch_size": 8, "query_length": 1024, "num_heads": 12, "head_dim": 64, "dtype_bytes": 2}


def test_flash_backward_of_gpt2() -> None:
    """softmax_d: 4 * 8 * 12 * 1024; dq_accum: 4 * 8 * 1024 * 12 * 64."""
    assert flash_backward_buffers(**GPT2, key_length=1024, num_key_value_heads=12) == (393_216, 25_165_824)


def test_flash_backward_rounds_length_and_head_and_expands_grouped_heads() -> None:
    """T 100 -> 128, D 80 -> 96; dk and dv for 8 query heads: 2 * 100 * 8 * 80 * 2."""
    shape = {"batch_size": 2, "query_length": 100, "key_length": 100, "num_heads": 8, "dtype_bytes": 2}
    assert flash_backward_buffers(**shape, num_key_value_heads=2, head_dim=80) == (8_192, 786_432, 256_000, 256_000)
    assert flash_backward_buffers(**shape, num_key_value_heads=8, head_dim=200)[1] == 4 * 2 * 128 * 8 * 256


def test_efficient_backward() -> None:
    """Half: delta and an accumulator in tiles; fp32: the product dO * O and delta."""
    assert efficient_backward_buffers(**GPT2) == (393_216, 25_165_824)
    assert efficient_backward_buffers(**{**GPT2, "dtype_bytes": 4}) == (25_165_824, 393_216)
    odd = {"batch_size": 1, "query_length": 65, "num_heads": 1, "head_dim": 40}
    assert efficient_backward_buffers(**odd, dtype_bytes=2) == (260, 4 * 128 * 64)


def test_cudnn_backward() -> None:
    assert cudnn_backward_buffers(batch_size=8, query_length=1024, num_heads=12, head_dim=64) == (25_559_040,)


def test_embedding_backward() -> None:
    """16 384 tokens of a vocabulary of 50 257 at width 768: 1 638 + 16 384 partial rows."""
    buffers = embedding_backward_buffers(num_tokens=16_384, vocab_size=50_257, hidden_size=768)
    assert buffers[-1] == 55_363_584
    assert buffers[:4] == (131_072, 131_072, 131_072, 262_144)
    assert buffers[-2] == 8 * 18_022
    assert embedding_backward_buffers(num_tokens=3072, vocab_size=50_257, hidden_size=768) == ()
    assert embedding_backward_buffers(num_tokens=4000, vocab_size=100, hidden_size=8)[-1] == 4 * 8 * (400 + 100)


def test_foreach_norm() -> None:
    """One fp32 for each chunk of 65 536 elements of the largest tensor, for every tensor."""
    assert foreach_norm_buffers(num_tensors=3, largest_elements=65_536) == (12,)
    assert foreach_norm_buffers(num_tensors=3, largest_elements=65_537) == (24,)


@given(st.integers(1, 64), st.integers(1, 4096), st.integers(1, 32), st.integers(1, 256), st.sampled_from([2, 4]))
def test_buffers_grow_with_the_batch(batch: int, length: int, heads: int, head_dim: int, dtype_bytes: int) -> None:
    def both(batch_size: int) -> tuple[int, ...]:
        shape = {
            "batch_size": batch_size,
            "query_length": length,
            "num_heads": heads,
            "head_dim": head_dim,
            "dtype_bytes": dtype_bytes,
        }
        return (
            *flash_backward_buffers(**shape, key_length=length, num_key_value_heads=heads),
            *efficient_backward_buffers(**shape),
        )

    assert tuple(2 * nbytes for nbytes in both(batch)) == both(2 * batch)


def test_a_second_rule_for_an_operator_is_refused() -> None:
    before = registry.registered_operators()
    with pytest.raises(KeyError, match="embedding_dense_backward is registered already"):
        scratch_rule("embedding_dense_backward")(lambda args: (1,))
    assert registry.registered_operators() == before
    assert registry.scratch_bytes("add", ()) == ()


def test_scratch_is_alive_together_and_gone_after_the_operator() -> None:
    with virtual_gpu() as machine:
        q = torch.randn(2, 4, 128, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        loss = F.scaled_dot_product_attention(q, q, q).sum()
        since = len(machine.timeline.allocations)
        loss.backward()
        scratch = [a for a in machine.timeline.allocations[since:] if a.category == "workspace"]
        assert [a.op for a in scratch] == ["_scaled_dot_product_flash_attention_backward"] * len(scratch)
        sizes = [a.nbytes for a in scratch]
        assert sizes[-2:] == [4 * 2 * 4 * 128, 4 * 2 * 128 * 4 * 64]
        live = machine.timeline.live_at(len(machine.timeline.events))
        assert all(machine.timeline.allocations[i].category != "workspace" for i in live)


def test_embedding_rule_end_to_end() -> None:
    with virtual_gpu() as machine:
        table = torch.nn.Embedding(5000, 16).cuda()
        tokens = torch.zeros(4, 1000, dtype=torch.long, device="cuda")
        loss = table(tokens).exp().sum()
        before, since = allocated(machine), len(machine.timeline.allocations)
        loss.backward()
        scratch = [a.nbytes for a in machine.timeline.allocations[since:] if a.category == "workspace"]
        assert scratch == list(embedding_backward_buffers(num_tokens=4000, vocab_size=5000, hidden_size=16))
        assert allocated(machine) < before + 5000 * 16 * 4 + 1
