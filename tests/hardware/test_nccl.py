"""NCCL's buffers: readings, and the sum that bounds them."""

import pytest

from vramcast.errors import InputError
from vramcast.hardware import GPU, NcclEstimate, all_gpus, cuda_context_bytes, custom_gpu, find_gpu, nccl_bytes
from vramcast.units import GIB, MIB


def mib(gpu: GPU, world_size: int) -> tuple[int, int, int]:
    estimate = nccl_bytes(gpu, world_size)
    return estimate.low_bytes // MIB, estimate.bytes // MIB, estimate.high_bytes // MIB


def test_one_process_has_no_communicator() -> None:
    assert nccl_bytes(find_gpu("h100"), 1) == NcclEstimate(0, 0, 0, "one process, no communicator")


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("world_size", [2, 8, 64])
def test_every_card_has_a_band(gpu: GPU, world_size: int) -> None:
    low, best, high = mib(gpu, world_size)
    assert 24 <= low < best < high < 5000


@pytest.mark.parametrize(
    ("name", "world_size", "outside_mib"),
    [
        ("v100-16gb", 8, 1508),
        ("h100-sxm", 8, 4483),
        ("h100-sxm", 8, 4444),
        ("h100-sxm", 8, 1085),
        ("h200", 8, 3523),
        ("b200", 8, 3748),
        ("a100-80gb", 4, 1464),
        ("rtx-pro-6000-blackwell", 8, 1147),
        ("t4", 4, 164),
    ],
)
def test_readings_lie_in_the_band_of_context_and_nccl(name: str, world_size: int, outside_mib: int) -> None:
    gpu = find_gpu(name)
    context, nccl = cuda_context_bytes(gpu), nccl_bytes(gpu, world_size)
    assert context.low_bytes + nccl.low_bytes <= outside_mib * MIB <= context.high_bytes + nccl.high_bytes


def test_a_communicator_of_a100s_is_what_was_read() -> None:
    assert mib(find_gpu("a100-80gb"), 2)[1] == 544
    low, _, high = mib(find_gpu("a100-80gb"), 4)
    assert low <= 688 <= high


def test_the_all_to_all_is_a_sum() -> None:
    """32 channels of 12 MiB to each peer, the communicator, and on Hopper 2 x 16 x 1 MiB for each GPU."""
    assert mib(find_gpu("a100-80gb"), 8)[2] == 32 * 12 * 7 + 688
    assert mib(find_gpu("h100-sxm"), 4)[2] >= 32 * 12 * 3 + 688 + 2 * 16 * 4
    # 3.28 GB were added by the first all-to-all of eight H100s (https://github.com/NVIDIA/nccl/issues/1685).
    assert 32 * 12 * 7 == pytest.approx(3.28e9 / MIB, rel=0.15)


def test_more_machines_add_the_networks_buffer() -> None:
    gpu = find_gpu("h100-sxm")
    assert mib(gpu, 16)[:2] == mib(gpu, 8)[:2]
    assert mib(gpu, 16)[2] == mib(gpu, 8)[2] + 512


def test_it_grows_with_the_gpus_of_one_machine() -> None:
    for name in ("h100-sxm", "a100-80gb"):
        highs = [mib(find_gpu(name), world_size)[2] for world_size in (2, 4, 8)]
        assert highs == sorted(highs)


def test_cards_on_the_bus_take_less() -> None:
    assert mib(find_gpu("rtx-4090"), 8)[1] < mib(find_gpu("a100-80gb"), 8)[1] < mib(find_gpu("h100-sxm"), 8)[1]
    assert mib(custom_gpu(24 * GIB), 8) == mib(find_gpu("rtx-4090"), 8)


def test_amds_library_is_said_to_be_taken_as_nccl() -> None:
    assert nccl_bytes(find_gpu("mi300x"), 8).source.startswith("no reading of RCCL, taken as NCCL")


def test_a_world_without_a_process_is_refused() -> None:
    with pytest.raises(InputError, match="world_size=0"):
        nccl_bytes(find_gpu("t4"), 0)
