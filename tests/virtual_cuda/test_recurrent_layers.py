"""LSTM, GRU and RNN take cuDNN's path: one flat weight buffer, output, states and reserve space, no step of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from virtual_gpu_helpers import allocated, allocations, operators, virtual_gpu

from vramcast.virtual_cuda.cuda_kernels.recurrent_sizes import GRU, LSTM, TANH, RecurrentLayers, dropout_state_bytes

KINDS = {"LSTM": LSTM, "GRU": GRU, "RNN": TANH}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"bidirectional": True, "num_layers": 3}, {"bias": False}])
def test_weights_are_views_of_one_buffer(kind: str, settings: dict[str, Any]) -> None:
    with virtual_gpu() as machine:
        module = getattr(nn, kind)(12, 20, **settings).cuda()
        weights = list(module.parameters())
        shape = RecurrentLayers(
            KINDS[kind], 12, 20, 0, settings.get("num_layers", 1), 2 if settings.get("bidirectional") else 1
        )
        assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
        assert weights[0].untyped_storage().nbytes() == 4 * shape.weight_elements()
        assert allocated(machine) == -(-4 * shape.weight_elements() // 512) * 512
        if settings.get("bias", True):
            assert shape.weight_elements() == sum(weight.numel() for weight in weights)


def test_sizes_of_a_worked_example() -> None:
    """2 layers, 1 direction, input 3, hidden 5: 4 * 5 * (3 + 5 + 2) + 4 * 5 * (5 + 5 + 2); 7 tokens keep 2 * 5 * 5 and 5 between layers."""
    layers = RecurrentLayers(LSTM, 3, 5, 0, 2, 1)
    assert layers.weight_elements() == 440
    assert layers.reserve_bytes(7, 2, dropout=False) == 7 * (50 + 5) * 2
    assert layers.reserve_bytes(7, 2, dropout=True) == 7 * (50 + 5) * 2 + 35
    assert layers.workspace_bytes(7, 2) == 7 * 20 * 2
    assert RecurrentLayers(LSTM, 3, 5, 2, 1, 2).weight_elements() == 2 * (4 * 5 * (3 + 2 + 2) + 2 * 5)
    assert dropout_state_bytes(80) == 3_932_160


def test_forward_and_backward_are_one_operator_each() -> None:
    steps, batch = 30, 2
    with virtual_gpu() as machine:
        module = nn.LSTM(8, 16, 2).cuda()
        x = torch.randn(steps, batch, 8, device="cuda", requires_grad=True)
        start = len(machine.timeline.allocations)
        out, _ = module(x)
        made = [(a.op, a.nbytes) for a in allocations(machine, start) if a.op == "_cudnn_rnn"]
        layers = RecurrentLayers(LSTM, 8, 16, 0, 2, 1)
        states = 2 * batch * 16 * 4
        reserve = layers.reserve_bytes(steps * batch, 4, dropout=False)
        assert [nbytes for _, nbytes in made] == [out.numel() * 4, states, states, reserve]
        loss = out.sum()
        start = len(machine.timeline.allocations)
        loss.backward()
        assert len(operators(machine, start)) < 12
        assert module.weight_hh_l1.grad.shape == (64, 16) and x.grad.shape == x.shape
        grads = {parameter.grad.untyped_storage().data_ptr() for parameter in module.parameters()}
        assert len(grads) == 1
        assert machine.kernels["recurrent layers: cudnn"] == 1
        assert any("cuDNN does not publish" in sentence for sentence in machine.assumptions.sentences())


def test_inference_keeps_no_reserve_space() -> None:
    with virtual_gpu() as machine, torch.no_grad():
        module = nn.GRU(8, 16, batch_first=True).cuda().eval()
        start = len(machine.timeline.allocations)
        out, hidden = module(torch.zeros(2, 5, 8, device="cuda"))
        assert (out.shape, hidden.shape) == ((2, 5, 16), (1, 2, 16))
        assert [a.op for a in allocations(machine, start)].count("_cudnn_rnn") == 2


def test_autocast_casts_into_a_new_half_buffer() -> None:
    with virtual_gpu():
        module = nn.LSTM(8, 16).cuda()
        with torch.autocast("cuda", torch.bfloat16):
            out, _ = module(torch.zeros(3, 2, 8, device="cuda"))
        assert out.dtype is torch.float16
        out.float().sum().backward()
        assert module.weight_ih_l0.grad.dtype is torch.float32


def test_bfloat16_does_without_cudnn_and_says_so() -> None:
    with virtual_gpu() as machine:
        out, _ = nn.LSTM(8, 16).cuda().bfloat16()(torch.zeros(3, 2, 8, device="cuda", dtype=torch.bfloat16))
        assert out.dtype is torch.bfloat16
        assert machine.kernels["recurrent layers: cudnn"] == 0
        assert any("bfloat16 runs without cuDNN" in sentence for sentence in machine.assumptions.sentences())


def test_dropout_states_are_kept() -> None:
    with virtual_gpu("a100-80gb") as machine:
        module = nn.LSTM(8, 16, 2, dropout=0.5).cuda()
        for _ in range(2):
            module(torch.zeros(3, 2, 8, device="cuda"))
        sizes = [a.nbytes for a in machine.timeline.allocations]
        assert sizes.count(dropout_state_bytes(108)) == 1


def test_packed_sequences() -> None:
    with virtual_gpu():
        packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 4, device="cuda"), [5, 3])
        out, _ = nn.LSTM(4, 6).cuda()(packed)
        assert out.data.shape == (8, 6)
        assert nn.utils.rnn.pad_packed_sequence(out)[0].shape == (5, 2, 6)


def test_on_the_cpu_nothing_changes() -> None:
    module = nn.LSTM(4, 6)
    x = torch.randn(3, 2, 4)
    expected = module(x)[0]
    with virtual_gpu():
        assert torch.equal(torch.ones(2), torch.ones(2))
    assert torch.equal(module(x)[0], expected)
