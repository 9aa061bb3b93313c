"""The kernels that CUDA runs and `meta` or the CPU would not: dropout, norms, softmax."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from virtual_gpu_helpers import allocations, operators, virtual_gpu


@pytest.mark.parametrize("autocast", [False, True])
def test_dropout_keeps_a_mask_of_one_byte(autocast: bool) -> None:
    with virtual_gpu() as machine:
        layer = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.1)).cuda()
        x = torch.randn(16, 32, device="cuda")
        since = len(machine.timeline.allocations)
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            y = layer(x)
        made = [(a.nbytes, a.dtype) for a in allocations(machine, since) if a.op == "native_dropout"]
        element, dtype = (2, "bfloat16") if autocast else (4, "float32")
        assert made == [(512 * element, dtype), (512, "bool")]
        since = len(machine.timeline.allocations)
        y.sum().backward()
        assert "native_dropout_backward" in operators(machine, since)
        assert "bernoulli_" not in operators(machine)


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (1.0, True), (0.5, False)])
def test_dropout_that_drops_nothing_or_all_is_not_fused(probability: float, training: bool) -> None:
    with virtual_gpu() as machine:
        F.dropout(torch.ones(8, device="cuda"), probability, training)
        assert "native_dropout" not in operators(machine)


def test_in_place_dropout_is_composed_on_cuda_too() -> None:
    with virtual_gpu() as machine:
        x = torch.ones(64, device="cuda")
        F.dropout(x, 0.5, True, inplace=True)
        assert [(a.op, a.nbytes) for a in allocations(machine)] == [("ones", 256), ("empty_like", 256)]


def test_dropout_inside_an_encoder_layer_and_inside_math_attention() -> None:
    with virtual_gpu() as machine:
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True).cuda()
        with sdpa_kernel([SDPBackend.MATH]):
            layer(torch.randn(2, 4, 16, device="cuda")).sum().backward()
        masks = [a.nbytes for a in allocations(machine) if a.op == "native_dropout" and a.dtype == "bool"]
        assert masks == [2 * 2 * 4 * 4, 2 * 4 * 16, 2 * 4 * 32, 2 * 4 * 16]
        assert machine.kernels["scaled_dot_product_attention: math"] == 1


@pytest.mark.parametrize("inference", [False, True])
def test_rms_norm_is_fused_where_dtypes_agree(inference: bool) -> None:
    with virtual_gpu() as machine, torch.inference_mode(inference):
        norm = nn.RMSNorm(64, device="cuda", dtype=torch.bfloat16)
        x = torch.randn(4, 8, 64, device="cuda", dtype=torch.bfloat16)
        since = len(machine.timeline.allocations)
        y = norm(x)
        assert [(a.op, a.nbytes) for a in allocations(machine, since)] == [
            ("_fused_rms_norm", 4096),
            ("_fused_rms_norm", 128),
        ]
        assert y.dtype is torch.bfloat16


def test_the_fused_norm_keeps_its_input_alone() -> None:
    with virtual_gpu() as machine:
        norm = nn.RMSNorm(64, device="cuda")
        x = torch.randn(32, 64, device="cuda", requires_grad=True)
        since = len(machine.timeline.allocations)
        norm(x).sum().backward()
        made = [(a.op, a.nbytes) for a in allocations(machine, since) if "rms" in a.op]
        assert made == [("_fused_rms_norm", 8192), ("_fused_rms_norm", 128)] + [
            ("_fused_rms_norm_backward", n) for n in (8192, 256)
        ]


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")
def test_rms_norm_of_another_dtype_is_composed() -> None:
    with virtual_gpu() as machine:
        norm = nn.RMSNorm(64, device="cuda")
        norm(torch.randn(32, 64, device="cuda", dtype=torch.bfloat16))
        assert {"pow", "rsqrt"} <= set(operators(machine))
        assert "_fused_rms_norm" not in operators(machine)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_reads_halves_and_writes_floats(function: object) -> None:
    with virtual_gpu() as machine:
        x = torch.randn(8, 64, device="cuda", dtype=torch.float16, requires_grad=True)
        since = len(machine.timeline.allocations)
        y = function(x, -1, dtype=torch.float32)  # type: ignore[operator]
        assert (y.dtype, [a.nbytes for a in allocations(machine, since)]) == (torch.float32, [8 * 64 * 4])
        y.sum().backward()
        assert x.grad is not None and x.grad.dtype is torch.float16


def test_softmax_of_bfloat16_is_converted_first() -> None:
    with virtual_gpu() as machine:
        x = torch.randn(8, 64, device="cuda", dtype=torch.bfloat16)
        since = len(machine.timeline.allocations)
        F.softmax(x, -1, dtype=torch.float32)
        assert [(a.op, a.nbytes) for a in allocations(machine, since)] == [("_to_copy", 2048), ("_softmax", 2048)]


def test_layer_norm_statistics_are_fp32() -> None:
    with virtual_gpu() as machine:
        norm = nn.LayerNorm(64, device="cuda", dtype=torch.bfloat16)
        x = torch.randn(32, 64, device="cuda", dtype=torch.bfloat16)
        since = len(machine.timeline.allocations)
        norm(x)
        assert [a.nbytes for a in allocations(machine, since)] == [32 * 64 * 2, 32 * 4, 32 * 4]


def test_cpu_tensors_keep_their_own_kernels() -> None:
    torch.manual_seed(0)
    plain = F.dropout(torch.ones(64), 0.5)
    with virtual_gpu() as machine:
        torch.manual_seed(0)
        assert torch.equal(F.dropout(torch.ones(64), 0.5), plain)
        q = torch.randn(1, 2, 4, 8)
        assert F.scaled_dot_product_attention(q, q, q).isfinite().all()
        assert machine.kernels == {}
