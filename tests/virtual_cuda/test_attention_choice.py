"""Which attention backend is taken on virtual tensors, and what it allocates."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from virtual_gpu_helpers import allocations, operators, virtual_gpu

from vramcast.kernels import AttentionChoice, choose_backend

KERNEL = {
    "flash": "_scaled_dot_product_flash_attention",
    "efficient": "_scaled_dot_product_efficient_attention",
    "cudnn": "_scaled_dot_product_cudnn_attention",
}


@pytest.mark.parametrize(
    ("gpu", "dtype", "mask", "backend"),
    [
        ("t4", torch.float16, None, "efficient"),
        ("t4", torch.bfloat16, None, "math"),
        ("v100-16gb", torch.float16, torch.bool, "efficient"),
        ("a100-80gb", torch.bfloat16, None, "flash"),
        ("a100-80gb", torch.bfloat16, torch.bool, "efficient"),
        ("a100-80gb", torch.float32, None, "efficient"),
        ("rtx-4090", torch.float16, None, "flash"),
        ("rtx-4090", torch.float32, torch.float32, "efficient"),
        ("h100-sxm", torch.bfloat16, None, "flash"),
        ("h100-sxm", torch.float64, None, "math"),
    ],
)
def test_the_kernel_that_runs(gpu: str, dtype: torch.dtype, mask: torch.dtype | None, backend: str) -> None:
    with virtual_gpu(gpu) as machine:
        q = torch.randn(2, 4, 32, 16, device="cuda", dtype=dtype, requires_grad=True)
        attn_mask = None if mask is None else torch.ones(32, 32, device="cuda").to(mask)
        F.scaled_dot_product_attention(q, q, q, attn_mask=attn_mask).sum().backward()
        assert machine.kernels == {f"scaled_dot_product_attention: {backend}": 1}
        traced = set(operators(machine))
        assert {name for name, kernel in KERNEL.items() if kernel in traced} == ({backend} - {"math"})
        assert (f"{KERNEL.get(backend, '_softmax')}_backward" in traced) or backend == "math"
        told = any("math path" in sentence for sentence in machine.assumptions.sentences())
        assert told == (backend == "math")


@pytest.mark.parametrize(
    ("chosen", "inside"), [*itertools.product(["flash", "efficient", "cudnn", "math"], ["train", "inference"])]
)
def test_sdpa_kernel_decides(chosen: str, inside: str) -> None:
    name = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "cudnn": "CUDNN_ATTENTION", "math": "MATH"}[
        chosen
    ]
    with (
        virtual_gpu() as machine,
        sdpa_kernel([getattr(SDPBackend, name)]),
        torch.inference_mode(inside == "inference"),
    ):
        q = torch.randn(2, 4, 32, 64, device="cuda", dtype=torch.bfloat16)
        F.scaled_dot_product_attention(q, q, q, is_causal=True)
        assert machine.kernels == {f"scaled_dot_product_attention: {chosen}": 1}
        assert machine.assumptions.sentences() == []


def test_no_kernel_raises_as_torch_does() -> None:
    with virtual_gpu("t4"), sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        q = torch.randn(1, 1, 4, 8, device="cuda", dtype=torch.half)
        with pytest.raises(RuntimeError, match="No available kernel"):
            F.scaled_dot_product_attention(q, q, q)


def test_autocast_chooses_the_dtype_before_the_backend() -> None:
    with virtual_gpu() as machine:
        q = torch.randn(2, 4, 32, 16, device="cuda", requires_grad=True)
        with torch.autocast("cuda", torch.bfloat16):
            out = F.scaled_dot_product_attention(q, q, q)
        assert out.dtype is torch.bfloat16
        assert machine.kernels == {"scaled_dot_product_attention: flash": 1}


def test_what_flash_allocates() -> None:
    """out [B, H, T, D], logsumexp fp32 [B, H, T], two small ones of random state; a head of 60 is padded to 64."""
    with virtual_gpu() as machine:
        q, k, v = (torch.randn(2, 4, 32, 60, device="cuda", dtype=torch.half) for _ in range(3))
        since = len(machine.timeline.allocations)
        assert F.scaled_dot_product_attention(q, k, v).shape == (2, 4, 32, 60)
        made = [(a.op, a.nbytes) for a in allocations(machine, since)]
        padded = 2 * 4 * 32 * 64 * 2
        assert made[:3] == [("constant_pad_nd", padded)] * 3
        assert [nbytes for op, nbytes in made if "flash" in op][:2] == [padded, 2 * 4 * 32 * 4]


def test_what_efficient_allocates() -> None:
    """logsumexp is padded to 32 queries and made for training alone; the random seed stays on the CPU."""
    with virtual_gpu() as machine:
        q = torch.randn(2, 4, 40, 16, device="cuda")
        since = len(machine.timeline.allocations)
        F.scaled_dot_product_attention(q, q, q)
        assert [a.nbytes for a in allocations(machine, since)] == [2 * 4 * 40 * 16 * 4]
        q.requires_grad_(True)
        since = len(machine.timeline.allocations)
        F.scaled_dot_product_attention(q, q, q)
        assert [a.nbytes for a in allocations(machine, since)] == [2 * 4 * 40 * 16 * 4, 2 * 4 * 64 * 4]


@pytest.mark.parametrize(("columns", "copies"), [(32, 0), (33, 1)])
def test_a_mask_of_odd_rows_is_copied_into_aligned_ones(columns: int, copies: int) -> None:
    with virtual_gpu() as machine:
        q = torch.randn(2, 4, 32, 16, device="cuda", dtype=torch.half)
        k = torch.randn(2, 4, columns, 16, device="cuda", dtype=torch.half)
        mask = torch.zeros(2, 1, 32, columns, device="cuda", dtype=torch.half)
        since = len(machine.timeline.allocations)
        F.scaled_dot_product_attention(q, k, k, attn_mask=mask)
        padded = [a.nbytes for a in allocations(machine, since) if a.op == "constant_pad_nd"]
        assert padded == [2 * 32 * 48 * 2] * copies


def test_a_bool_mask_becomes_an_additive_one_of_its_own_shape() -> None:
    with virtual_gpu() as machine:
        q = torch.randn(2, 4, 32, 16, device="cuda", dtype=torch.half)
        mask = torch.ones(2, 1, 32, 32, dtype=torch.bool, device="cuda")
        since = len(machine.timeline.allocations)
        F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
        made = [(a.op, a.nbytes) for a in allocations(machine, since)]
        assert made[:3] == [("scalar_tensor", 2), ("scalar_tensor", 2), ("where", 2 * 32 * 32 * 2)]


def test_distinct_decisions_are_recorded_in_order() -> None:
    """The same call twice is one decision; a mask, a length and a switched-off backend are others."""
    with virtual_gpu() as machine:
        q = torch.randn(2, 4, 32, 16, device="cuda", dtype=torch.half)
        mask = torch.zeros(32, 32, device="cuda", dtype=torch.half)
        for attn_mask in (None, mask, None):
            F.scaled_dot_product_attention(q, q, q, attn_mask=attn_mask)
        F.scaled_dot_product_attention(q, q[:, :, :7], q[:, :, :7], dropout_p=0.1)
        with sdpa_kernel([SDPBackend.MATH]):
            F.scaled_dot_product_attention(q, q, q)
        choices = machine.recording().attention_choices
        capability = machine.compute_capability
    assert [choice.backend for choice in choices] == ["flash", "efficient", "flash", "math"]
    assert [choice.call.has_mask for choice in choices] == [False, True, False, False]
    assert [(choice.call.key_length, choice.call.dropout) for choice in choices] == [(32, 0.0)] * 2 + [
        (7, 0.1),
        (32, 0.0),
    ]
    assert choices[0].enabled == {"flash", "efficient", "math", "cudnn"} and choices[3].enabled == {"math"}
    assert all(made_again(choice, capability) == choice.backend for choice in choices)


def made_again(choice: AttentionChoice, capability: tuple[int, int]) -> str:
    return choose_backend(choice.call, capability, choice.enabled, choice.prefer_cudnn).backend
