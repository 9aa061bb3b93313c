"""Which attention backend is taken: as a pure function, and end to end on virtual tensors."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from virtual_gpu_helpers import allocations, operators, virtual_gpu

from vramcast.virtual_cuda.cuda_kernels.sdpa_choice import AttentionCall, NoBackendError, choose_backend

ALL = frozenset(("flash", "efficient", "math", "cudnn"))
T4, V100, A100, RTX_3090, RTX_4090, H100, RTX_5090 = (7, 5), (7, 0), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0)

CALL = AttentionCall(
    dtype="bfloat16", dimensions=4, query_length=128, key_length=128, num_heads=8, num_key_value_heads=8, head_dim=64,
    value_head_dim=64, has_mask=False, mask_requires_grad=False, is_causal=True, dropout=0.0, requires_grad=True,
    enable_gqa=False,
)  # fmt: skip


@pytest.mark.parametrize("capability", [A100, RTX_3090, RTX_4090, H100, RTX_5090])
@pytest.mark.parametrize(
    ("change", "backend"),
    [
        ({}, "flash"),
        ({"dtype": "float16"}, "flash"),
        ({"dtype": "float32"}, "efficient"),
        ({"dtype": "float64"}, "math"),
        ({"has_mask": True}, "efficient"),
        ({"has_mask": True, "head_dim": 60, "value_head_dim": 60}, "math"),
        ({"head_dim": 60, "value_head_dim": 60}, "flash"),
        ({"head_dim": 256, "value_head_dim": 256, "dropout": 0.0, "requires_grad": False}, "flash"),
        ({"head_dim": 264, "value_head_dim": 264}, "efficient"),
        ({"value_head_dim": 32}, "efficient"),
        ({"dtype": "float32", "head_dim": 6, "value_head_dim": 6}, "math"),
        ({"key_length": 256}, "efficient"),
        ({"key_length": 256, "is_causal": False}, "flash"),
        ({"dimensions": 3}, "math"),
        ({"query_length": 0}, "math"),
        ({"last_strides_are_one": False}, "math"),
        ({"num_key_value_heads": 2}, "math"),
        ({"num_key_value_heads": 2, "enable_gqa": True}, "flash"),
        ({"num_key_value_heads": 2, "enable_gqa": True, "dtype": "float32"}, "math"),
    ],
)
def test_from_ampere_on(capability: tuple[int, int], change: dict[str, object], backend: str) -> None:
    assert choose_backend(replace(CALL, **change), capability, ALL).backend == backend  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capability", "change", "backend"),
    [
        (T4, {"dtype": "float16"}, "efficient"),
        (V100, {"dtype": "float16"}, "efficient"),
        (T4, {"dtype": "bfloat16"}, "math"),
        (V100, {"dtype": "float32"}, "efficient"),
        (T4, {"dtype": "float32", "head_dim": 6, "value_head_dim": 6}, "efficient"),
        (V100, {"dtype": "float16", "head_dim": 60, "value_head_dim": 60}, "math"),
        (RTX_4090, {"head_dim": 200, "value_head_dim": 200}, "efficient"),
        (RTX_4090, {"head_dim": 192, "value_head_dim": 192}, "flash"),
        (RTX_4090, {"head_dim": 256, "value_head_dim": 256}, "flash"),
        (RTX_4090, {"head_dim": 256, "value_head_dim": 256, "dropout": 0.1}, "efficient"),
        (A100, {"head_dim": 200, "value_head_dim": 200, "dropout": 0.1}, "flash"),
    ],
)
def test_by_generation(capability: tuple[int, int], change: dict[str, object], backend: str) -> None:
    assert choose_backend(replace(CALL, **change), capability, ALL).backend == backend  # type: ignore[arg-type]


def test_flags_and_preference() -> None:
    assert choose_backend(CALL, A100, ALL - {"flash"}).backend == "efficient"
    assert choose_backend(CALL, A100, frozenset({"math"})).backend == "math"
    assert choose_backend(CALL, A100, frozenset({"cudnn"})).backend == "cudnn"
    assert choose_backend(CALL, H100, ALL, prefer_cudnn=True).backend == "cudnn"
    assert choose_backend(replace(CALL, dtype="float32"), H100, ALL, prefer_cudnn=True).backend == "efficient"
    with pytest.raises(NoBackendError, match=r"No available kernel.*flash: takes no attention mask"):
        choose_backend(replace(CALL, has_mask=True), A100, frozenset({"flash"}))


@given(
    dtype=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    head_dim=st.integers(1, 300),
    has_mask=st.booleans(),
    lengths=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    capability=st.sampled_from([(5, 2), (6, 1), T4, V100, A100, RTX_4090, H100, (10, 0), RTX_5090]),
    enabled=st.sets(st.sampled_from(sorted(ALL))),
)
def test_every_call_has_a_backend_and_a_reason_for_each_refusal(
    dtype: str, head_dim: int, has_mask: bool, lengths: tuple[int, int], capability: tuple[int, int], enabled: set[str]
) -> None:
    call = replace(
        CALL,
        dtype=dtype,
        head_dim=head_dim,
        value_head_dim=head_dim,
        has_mask=has_mask,
        query_length=lengths[0],
        key_length=lengths[1],
    )
    choice = choose_backend(call, capability, frozenset(enabled | {"math"}))  # type: ignore[arg-type]
    assert choice.backend in enabled | {"math"}
    assert all(reason for _, reason in choice.refused)
    assert choice.backend not in {backend for backend, _ in choice.refused}


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
