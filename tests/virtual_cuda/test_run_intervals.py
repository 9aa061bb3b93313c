"""What is uncertain about code that ran: convolutions, tensors on other streams, fp16 autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from virtual_gpu_helpers import virtual_gpu

import vramcast
from vramcast.forecast import Forecast
from vramcast.hardware import allocator_capacity_bytes, find_gpu
from vramcast.units import GIB, MIB


def high(forecast: Forecast, name: str) -> int:
    """The high end of a part, which may not be there."""
    return sum(part.high_bytes for part in forecast.uncertainty if part.name == name)


class TestConvolutions:
    @pytest.mark.parametrize(
        ("frames", "unrolled"), [(4, 256 * 27 * 2 * 1088 * 1920 * 4), (5, 256 * 27 * 3 * 1088 * 1920 * 4)]
    )
    def test_the_published_one_is_not_said_to_fit(self, frames: int, unrolled: int) -> None:
        """pytorch issue 128947 on an A100-80GB: 17 GiB at 4 frames, and a request of 161 GiB at 5 where 8.99 and 11.5 GiB are live."""
        with vramcast.virtual_gpu("a100-80gb") as gpu:
            layer = nn.Conv3d(256, 64, 3).cuda()
            out = layer(torch.rand(1, 256, frames, 1090, 1922, device="cuda"))
        forecast = gpu.forecast()
        del out, layer
        assert high(forecast, "convolution workspaces") == unrolled
        assert forecast.reserved_bytes_low < 17 * GIB < forecast.reserved_bytes_high
        assert forecast.verdict == "tight"
        if frames == 5:
            assert round(unrolled / GIB) == 161

    def test_forward_backward_and_transposed(self) -> None:
        x = (8, 3, 32, 32)
        with virtual_gpu() as machine:
            layer = nn.Conv2d(3, 16, 5, stride=2).cuda()
            layer(torch.rand(x, device="cuda", requires_grad=True)).sum().backward()
        assert high(machine.forecast(), "convolution workspaces") == 8 * 3 * 25 * 14 * 14 * 4
        with virtual_gpu() as machine:
            nn.ConvTranspose2d(3, 16, 5).cuda()(torch.rand(x, device="cuda"))
        assert high(machine.forecast(), "convolution workspaces") == 8 * 16 * 25 * 32 * 32 * 4

    def test_there_is_none_without(self) -> None:
        with virtual_gpu() as machine:
            nn.Linear(4, 4).cuda()(torch.rand(2, 4, device="cuda"))
        assert high(machine.forecast(), "convolution workspaces") == 0


def test_frees_that_wait_for_another_stream_are_an_interval() -> None:
    """Three buffers of 32 MiB, each given to another stream and dropped: one block at once, three where the GPU is far behind."""
    with virtual_gpu() as machine:
        stream = torch.cuda.Stream()
        for _ in range(3):
            x = torch.empty(32 * MIB, dtype=torch.uint8, device="cuda")
            x.record_stream(stream)
            del x
    forecast = machine.forecast()
    assert forecast.peak_reserved_bytes == 32 * MIB
    assert high(forecast, "deferred frees") == 64 * MIB
    assert forecast.reserved_bytes_high >= 96 * MIB


def test_fp16_autocast_is_a_kind_of_its_own() -> None:
    reasons = []
    for dtype in (torch.float16, torch.bfloat16):
        with virtual_gpu() as machine:
            with torch.autocast("cuda", dtype):
                nn.Linear(64, 64).cuda()(torch.rand(2, 64, device="cuda"))
        reasons += [part.reason for part in machine.forecast().uncertainty if part.name.startswith("spread")]
    assert [reason.startswith("one GPU, fp16 autocast") for reason in reasons] == [True, False]


def test_a_card_runs_out_where_it_is_asked_to() -> None:
    most = allocator_capacity_bytes(find_gpu("rtx-3060-12gb"))
    with vramcast.virtual_gpu("rtx-3060-12gb", capacity_bytes="card") as gpu:
        kept = torch.empty(most // (2 * MIB) * 2 * MIB, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match=r"total capacity of 11\.75 GiB"):
            torch.empty(2 * MIB, dtype=torch.uint8, device="cuda")
        del kept
    assert gpu.forecast().verdict == "tight"
    with vramcast.virtual_gpu("rtx-3060-12gb") as gpu:
        torch.empty(16 * GIB, dtype=torch.uint8, device="cuda")
    assert gpu.forecast().verdict == "does_not_fit"
