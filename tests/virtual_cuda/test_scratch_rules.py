"""Scratch buffers in the timeline: taken by the right operators, with the arguments that are recorded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from virtual_gpu_helpers import allocated, virtual_gpu

from vramcast.kernels import rule_arguments, scratch_buffers, scratch_rules
from vramcast.timeline import Allocation
from vramcast.virtual_cuda.scratch import registry, takes_scratch


def scratch_after(program: Callable[[], object]) -> list[Allocation]:
    """Scratch buffers that a program takes on a virtual GPU."""
    with virtual_gpu() as machine:
        program()
        return [allocation for allocation in machine.timeline.allocations if allocation.scratch is not None]


def attention(backend: SDPBackend, dtype: torch.dtype, *, key_value_heads: int = 4, contiguous: bool = True) -> None:
    q = torch.randn(2, 4, 100, 64, device="cuda", dtype=dtype, requires_grad=True)
    k = torch.randn(2, key_value_heads, 100, 64, device="cuda", dtype=dtype, requires_grad=True)
    with sdpa_kernel([backend]):
        out = F.scaled_dot_product_attention(q, k, k, enable_gqa=key_value_heads != 4)
    gradient = torch.empty_like(out.transpose(1, 2).contiguous()).transpose(1, 2)
    out.backward(gradient if contiguous else gradient.contiguous())


def test_a_second_rule_for_an_operator_is_refused() -> None:
    before = registry.registered_operators()
    with pytest.raises(KeyError, match="embedding_dense_backward is registered already"):
        takes_scratch("embedding_dense_backward", "foreach_norm")(lambda args: {})
    assert registry.registered_operators() == before
    assert registry.scratch_of("add", (), 108) == ()


def test_every_rule_is_taken_by_an_operator() -> None:
    assert set(registry.registered_operators().values()) == set(scratch_rules())


@pytest.mark.parametrize(
    ("rule", "taken", "program"),
    [
        ("flash_attention_backward", [1, 2], lambda: attention(SDPBackend.FLASH_ATTENTION, torch.half)),
        (
            "flash_attention_backward",
            [0, 1, 2, 3, 4],
            lambda: attention(SDPBackend.FLASH_ATTENTION, torch.half, key_value_heads=2, contiguous=False),
        ),
        ("efficient_attention_backward", [0, 1], lambda: attention(SDPBackend.EFFICIENT_ATTENTION, torch.float)),
        ("efficient_attention_backward", [1, 2], lambda: attention(SDPBackend.EFFICIENT_ATTENTION, torch.half)),
        ("cudnn_attention_backward", [0], lambda: attention(SDPBackend.CUDNN_ATTENTION, torch.half)),
    ],
)
def test_attention_says_where_its_sizes_come_from(rule: str, taken: list[int], program: Callable[[], object]) -> None:
    made = scratch_after(program)
    assert [(a.scratch.rule, a.scratch.buffer) for a in made if a.scratch] == [(rule, buffer) for buffer in taken]
    for allocation in made:
        assert allocation.scratch is not None and allocation.category == "workspace"
        arguments = dict(allocation.scratch.arguments)
        assert set(arguments) == set(rule_arguments(rule))
        assert arguments["batch_size"] == 2 and arguments["query_length"] == 100
        assert scratch_buffers(rule, arguments)[allocation.scratch.buffer] == allocation.nbytes


def forward_events(
    shape: tuple[int, int, int, int],
    *,
    gpu: str = "h100",
    keys: int | None = None,
    dropout: float = 0.0,
    **settings: bool,
) -> tuple[list[tuple[str, int]], int]:
    """(alloc or free, bytes) of flash attention's forward, and the allocated peak above what was there before."""
    batch_size, num_heads, length, head_dim = shape
    with virtual_gpu(gpu, **settings) as machine:
        q = torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
        k = torch.randn(batch_size, num_heads, keys or length, head_dim, device="cuda", dtype=torch.bfloat16)
        before, since = allocated(machine), len(machine.timeline.events)
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            out = F.scaled_dot_product_attention(q, k, k, dropout_p=dropout)
        events = machine.timeline.events[since:]
        found = [(event.kind.name.lower(), machine.timeline.allocations[event.target].nbytes) for event in events]
        del out
        return found, machine.peak_allocated_bytes - before


GPT2_OUT, GPT2_SUMS = 12 * 1024 * 64 * 2, 12 * 1024 * 4
GPT2_PARTS = (4 * GPT2_SUMS, 4 * GPT2_SUMS * 64)


def test_flash_forward_splits_the_keys_of_one_sequence() -> None:
    """Output and log-sum-exp, then the parts, then the state of the random generator, as `mha_fwd` makes them."""
    events, peak = forward_events((1, 12, 1024, 64))
    taken = [("alloc", nbytes) for nbytes in (GPT2_OUT, GPT2_SUMS, *GPT2_PARTS, 16, 8)]
    assert events[:6] == taken
    assert events[6:8] == [("free", nbytes) for nbytes in GPT2_PARTS]
    assert peak == GPT2_OUT + GPT2_SUMS + sum(GPT2_PARTS) + 2 * 512


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((8, 12, 1024, 64), {}),
        ((1, 12, 1024, 64), {"gpu": "rtx-3060-12gb"}),
        ((1, 12, 1024, 64), {"dropout": 0.1}),
        ((1, 12, 1, 64), {"keys": 1024}),
    ],
)
def test_flash_forward_takes_nothing(shape: tuple[int, int, int, int], settings: dict[str, Any]) -> None:
    """Enough blocks for every multiprocessor; dropout; one query, which is left out."""
    events, _ = forward_events(shape, **settings)
    assert len([kind for kind, _ in events if kind == "alloc"]) == 4
    assert max(nbytes for _, nbytes in events) == shape[0] * shape[1] * shape[2] * shape[3] * 2


def test_a_recording_for_other_sizes_keeps_empty_parts() -> None:
    events, peak = forward_events((8, 12, 1024, 64), keeps_empty_scratch=True)
    assert [nbytes for _, nbytes in events].count(0) == 4
    assert events[2:4] == [("alloc", 0), ("alloc", 0)]
    assert peak == forward_events((8, 12, 1024, 64))[1]
    with_dropout, _ = forward_events((8, 12, 1024, 64), keeps_empty_scratch=True, dropout=0.1)
    assert 0 not in [nbytes for _, nbytes in with_dropout]


def test_the_copy_of_grad_out_is_as_large_as_grad_out() -> None:
    made = scratch_after(lambda: attention(SDPBackend.FLASH_ATTENTION, torch.half, contiguous=False))
    assert (made[0].op, made[0].nbytes) == ("_scaled_dot_product_flash_attention_backward", 2 * 4 * 100 * 64 * 2)


def test_foreach_norm_names_the_sizes_that_occur() -> None:
    def clip() -> None:
        gradients = [torch.zeros(size, device="cuda") for size in (10, 70_000, 300)]
        torch.nn.utils.get_total_norm(gradients)

    (buffer,) = scratch_after(clip)
    assert buffer.scratch == ("foreach_norm", (("num_tensors", 3), ("tensor_elements", (10, 70_000, 300))), 0)
    assert buffer.nbytes == 4 * 3 * 2


def test_a_small_embedding_and_the_workspaces_of_libraries_have_no_scratch() -> None:
    def program() -> None:
        rows = torch.nn.Embedding(50, 16).cuda()(torch.zeros(3072, dtype=torch.long, device="cuda"))
        (rows @ rows.T).sum().backward()

    assert scratch_after(program) == []


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
        sizes = {"num_tokens": 4000, "vocab_size": 5000, "hidden_size": 16}
        assert scratch == list(scratch_buffers("embedding_backward", sizes))
        assert allocated(machine) < before + 5000 * 16 * 4 + 1
