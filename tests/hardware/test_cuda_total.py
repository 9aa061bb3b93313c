"""What CUDA offers of a card: readings, the rule for cards without one, and what the user says."""

import pytest

from vramcast.hardware import all_gpus, allocator_capacity_bytes, cuda_context_bytes, custom_gpu, find_gpu
from vramcast.hardware.cuda_total import cuda_total
from vramcast.units import GIB, MIB

# GiB, as PyTorch's out-of-memory messages print them on Linux.
PRINTED = {
    "rtx-2080-ti": (10.75, 10.75),
    "rtx-3060-12gb": (11.75, 11.76),
    "rtx-3080-10gb": (9.78, 9.78),
    "rtx-3090": (23.68, 23.68),
    "rtx-4090": (23.64, 23.68),
    "rtx-5090": (31.36, 31.37),
    "a10": (21.99, 21.99),
    "a100-40gb": (39.59, 39.59),
    "a100-80gb": (79.10, 79.33),
    "h100-sxm": (79.10, 79.11),
    "t4": (14.74, 14.76),
    "v100-16gb": (15.77, 15.78),
    "v100-32gb": (31.75, 31.75),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_best_estimate_is_what_messages_print(name: str) -> None:
    gpu, (low, high) = find_gpu(name), PRINTED[name]
    assert low <= round(gpu.cuda_total_bytes / GIB, 2) <= high
    assert gpu.cuda_total_low_bytes <= gpu.cuda_total_bytes <= gpu.cuda_total_high_bytes
    assert high - 0.005 <= gpu.cuda_total_high_bytes / GIB
    assert gpu.cuda_total_is_read


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("t4", 14.56),
        ("rtx-4090", 23.52),
        ("rtx-3090", 23.56),
        ("rtx-3060-12gb", 11.63),
        ("rtx-2080-ti", 10.56),
        ("a100-40gb", 39.49),
        ("rtx-4070", 11.56),
        ("h200", 139.81),
        ("b200", 178.35),
    ],
)
def test_the_band_holds_what_other_drivers_offer(name: str, gib: float) -> None:
    gpu = find_gpu(name)
    assert gpu.cuda_total_low_bytes - 5 * MIB <= gib * GIB <= gpu.cuda_total_high_bytes + 5 * MIB


def test_amds_driver_keeps_nothing() -> None:
    for name in ("mi250x", "mi300x"):
        assert find_gpu(name).cuda_total_bytes == find_gpu(name).memory_total_bytes


def test_every_nvidia_card_offers_less_than_its_driver_reports() -> None:
    for gpu in all_gpus():
        if gpu.vendor == "nvidia":
            assert 60 * MIB < gpu.memory_total_bytes - gpu.cuda_total_bytes < 0.06 * gpu.memory_total_bytes, gpu.name
        if not gpu.cuda_total_is_read:
            assert gpu.cuda_total_source.startswith("no reading; the driver is taken to keep"), gpu.name


def test_a_card_without_a_reading_lies_between_its_neighbours() -> None:
    """11.49 GiB was printed by a Blackwell card of 12 GB after the rule was made."""
    gpu = find_gpu("rtx-5070")
    assert not gpu.cuda_total_is_read
    assert gpu.cuda_total_bytes == gpu.cuda_total_low_bytes
    assert round(gpu.cuda_total_bytes / GIB, 2) == 11.49
    assert "rtx-5070-ti, rtx-5080" in gpu.cuda_total_source


def row(name: str, memory: int, *readings: int, capability: tuple[int, int] = (8, 6)) -> dict[str, object]:
    """As gpus.toml has it; MiB."""
    told = {"cuda_total_mib": list(readings), "cuda_total_source": "read"} if readings else {}
    same = {"vendor": "nvidia", "architecture": "ampere", "compute_capability": list(capability)}
    return {"name": name, "memory_total_mib": memory, **same, **told}


ROWS = [row("small", 8000, 7700, 7800), row("large", 16000, 15400, 15600), row("other", 9000, 1, capability=(8, 0))]


@pytest.mark.parametrize(
    ("memory", "low", "high"),
    [
        (12000, 12000 - 600, 12000 - 200),  # at least what it keeps of the small card, at most what of the large one
        (8000, 8000 - 300, 8000 - 200),  # as much as one that was read
        (4000, 4000 - 300, 4000 - 100),  # no smaller card: the share of the next larger one
        (32000, 32000 - 1200, 32000 - 400),  # no larger card: the share of the next smaller one
    ],
)
def test_the_rule_by_hand(memory: int, low: int, high: int) -> None:
    total = cuda_total(row("asked", memory), ROWS)
    assert (total.low_bytes, total.nbytes, total.high_bytes) == (low * MIB, low * MIB, high * MIB)
    assert not total.is_read


def test_readings_by_hand() -> None:
    two = cuda_total(row("two", 8000, 7600, 7900), ROWS)
    assert (two.low_bytes, two.nbytes, two.high_bytes) == (7600 * MIB, 7600 * MIB, 7900 * MIB)
    three = cuda_total(row("three", 8000, 7600, 7850, 7900), ROWS)
    assert (three.low_bytes, three.nbytes, three.high_bytes) == (7600 * MIB, 7850 * MIB, 7900 * MIB)
    one = cuda_total(row("one", 8000, 7750, 7750), ROWS)
    assert (one.low_bytes, one.nbytes, one.high_bytes) == (7700 * MIB, 7750 * MIB, 7800 * MIB)


def test_what_the_user_gives_is_what_cuda_offers() -> None:
    for gpu in (custom_gpu(24 * GIB), find_gpu("rtx-4090").with_memory(24 * GIB)):
        assert gpu.memory_total_bytes == gpu.cuda_total_bytes == 24 * GIB
        assert gpu.cuda_total_low_bytes == gpu.cuda_total_high_bytes == 24 * GIB
        assert (gpu.cuda_total_source, gpu.cuda_total_is_read) == ("given by the user", False)
    assert find_gpu("rtx-4090").with_memory(5).compute_capability == (8, 9)


def test_the_allocator_has_what_cuda_offers_without_the_context() -> None:
    gpu = find_gpu("rtx-4090")
    assert allocator_capacity_bytes(gpu) == gpu.cuda_total_bytes - cuda_context_bytes(gpu).bytes
