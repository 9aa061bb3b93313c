"""flex_attention is followed as its compiled kernel."""

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from virtual_gpu_helpers import allocated, operators, virtual_gpu


def test_no_score_matrix_is_made() -> None:
    batch, heads, length, size = 2, 4, 256, 64
    with virtual_gpu() as machine:
        q, k, v = (
            torch.randn(batch, heads, length, size, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3)
        )
        mask = create_block_mask(
            lambda b, h, q, kv: q >= kv, B=None, H=None, Q_LEN=length, KV_LEN=length, device="cuda"
        )
        before, start = allocated(machine), len(machine.timeline.allocations)
        out = torch.compile(flex_attention)(q, k, v, score_mod=lambda s, b, h, i, j: s + i - j, block_mask=mask)
        assert out.shape == q.shape and len(operators(machine, start)) == 2
        assert allocated(machine) - before == batch * heads * length * (size * 2 + 4)
        before = allocated(machine)
        out.sum().backward()
        del out
        assert q.grad is not None and q.grad.shape == q.shape
        assert machine.kernels["flex_attention: compiled"] == 1
        assert any("flex_attention is taken as its compiled kernel" in s for s in machine.assumptions.sentences())


def test_grouped_heads_and_log_sum_exp() -> None:
    with virtual_gpu():
        q = torch.zeros(1, 8, 128, 64, device="cuda")
        k = torch.zeros(1, 2, 128, 64, device="cuda")
        out, logsumexp = flex_attention(q, k, k, enable_gqa=True, return_lse=True)
        assert (out.shape, logsumexp.shape, logsumexp.dtype) == (q.shape, (1, 8, 128), torch.float32)
