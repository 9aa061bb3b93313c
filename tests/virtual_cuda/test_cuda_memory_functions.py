"""`torch.cuda` memory functions answer from the simulated allocator, and a full card raises torch's own error."""

import gc

import pytest
import torch
from virtual_gpu_helpers import MIB, live_bytes, virtual_gpu

from vramcast.allocator.replay import replay
from vramcast.hardware import allocator_capacity_bytes, find_gpu


def test_memory_functions_agree_with_the_machine() -> None:
    with virtual_gpu() as machine:
        x = torch.empty(MIB, device="cuda")
        y = torch.empty(5 * MIB, device="cuda")
        del y
        assert torch.cuda.memory_allocated() == x.numel() * 4 == live_bytes(machine)
        assert torch.cuda.max_memory_allocated() == 24 * MIB == machine.peak_allocated_bytes
        assert torch.cuda.memory_reserved() == torch.cuda.max_memory_reserved() == machine.peak_reserved_bytes
        stats = torch.cuda.memory_stats()
        assert stats["allocated_bytes.all.current"] == 4 * MIB
        assert stats["num_alloc_retries"] == 0
        assert torch.accelerator.max_memory_allocated() == 24 * MIB
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 4 * MIB
        before = torch.cuda.memory_reserved()
        torch.cuda.empty_cache()
        assert before - torch.cuda.memory_reserved() == 20 * MIB
        free, total = torch.cuda.mem_get_info()
        assert total == machine.gpu.cuda_total_bytes
        assert total - free == torch.cuda.memory_reserved() + machine.context_bytes()


def test_replaying_the_timeline_gives_the_live_allocator() -> None:
    with virtual_gpu() as machine:
        model = torch.nn.Sequential(*(torch.nn.Linear(300, 300) for _ in range(4))).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            model(torch.randn(64, 300, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            torch.cuda.empty_cache()
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    result = replay(machine.timeline)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (
        machine.peak_allocated_bytes,
        machine.peak_reserved_bytes,
    )
    assert (result.allocated_bytes, result.reserved_bytes) == (allocated, reserved)


def test_properties_come_from_the_gpu() -> None:
    with virtual_gpu("h100-sxm", device_count=2) as machine:
        assert torch.cuda.is_available()
        assert torch.cuda.device_count() == 2
        assert torch.cuda.get_device_capability() == (9, 0)
        assert "H100" in torch.cuda.get_device_name()
        assert torch.cuda.get_device_properties(0).total_memory == machine.gpu.cuda_total_bytes
        with torch.cuda.device(1):
            assert torch.zeros(4, device="cuda").device.index == 1
        assert torch.cuda.memory_allocated(1) == 0
        assert torch.cuda.max_memory_allocated(1) == 512
        assert torch.cuda.max_memory_allocated(0) == 0


def test_out_of_memory_is_torchs_error_and_a_smaller_batch_fits() -> None:
    batch, failures = 1024, 0
    with virtual_gpu(capacity_bytes=100 * MIB) as machine:
        while True:
            try:
                activations = [torch.empty(batch, 65536, device="cuda") for _ in range(2)]
                break
            except torch.cuda.OutOfMemoryError as error:
                assert "CUDA out of memory. Tried to allocate 256.00 MiB" in str(error) or failures
                failures += 1
                batch //= 2
        assert (batch, failures) == (128, 3)
        del activations
        assert torch.cuda.memory_allocated() == 0
        torch.cuda.empty_cache()
        assert torch.cuda.memory_reserved() == 0
        assert live_bytes(machine) == 0


def test_out_of_memory_in_a_kernels_scratch_leaks_nothing() -> None:
    """The gradient of an embedding fits, its sorting buffers do not."""
    with virtual_gpu(capacity_bytes=22 * MIB) as machine:
        embedding = torch.nn.Embedding(4096, 400).cuda()
        tokens = torch.zeros(3073, dtype=torch.long, device="cuda")
        rows = embedding(tokens)
        loss = rows.sum()
        with pytest.raises(torch.cuda.OutOfMemoryError):
            loss.backward()
        del loss, rows
        gc.collect()
        assert torch.cuda.memory_allocated() == live_bytes(machine) == 4096 * 400 * 4 + 49 * 512  # weight, tokens
        assert machine.phases.current != "backward"


def test_after_an_error_in_a_step_the_phase_is_forward_again() -> None:
    with virtual_gpu(capacity_bytes=62 * MIB) as machine:
        layer = torch.nn.Linear(1448, 1448, bias=False).cuda()
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.zeros(1, 1448, device="cuda")).sum().backward()
        with pytest.raises(torch.cuda.OutOfMemoryError):
            optimizer.step()
        torch.zeros(8).cuda()
        assert machine.timeline.allocations[-1].phase == "forward"
        assert machine.timeline.allocations[-1].category == "inputs"


def test_the_out_of_memory_error_names_what_cuda_offers() -> None:
    words = r"Tried to allocate 64\.00 GiB\. GPU 0 has a total capacity of 23\.64 GiB of which 23\.1\d GiB is free"
    capacity = allocator_capacity_bytes(find_gpu("rtx-4090"))
    with virtual_gpu("rtx-4090", capacity_bytes=capacity), pytest.raises(torch.OutOfMemoryError, match=words):
        torch.empty(64 << 30, dtype=torch.uint8, device="cuda")
