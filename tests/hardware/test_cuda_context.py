"""The CUDA context: readings, and what they make likely for other cards."""

import pytest

from vramcast.errors import InputError
from vramcast.hardware import GPU, all_gpus, cuda_context_bytes, custom_gpu, find_gpu
from vramcast.hardware.gpu import architecture_of
from vramcast.units import GIB, MIB


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_every_card_has_a_sourced_band(gpu: GPU) -> None:
    context = cuda_context_bytes(gpu)
    assert 0 < context.low_bytes < context.bytes < context.high_bytes < 1600 * MIB
    assert context.low_bytes <= context.initial_bytes <= context.bytes
    farther = max(context.high_bytes - context.bytes, context.bytes - context.low_bytes)
    assert context.uncertainty_bytes == farther > 15 * MIB
    assert context.source


@pytest.mark.parametrize(
    ("name", "readings_mib"),
    [
        ("t4", (120, 154)),
        ("l4", (255,)),
        ("rtx-a6000", (309, 317)),
        ("rtx-4090", (416,)),
        ("rtx-6000-ada", (426,)),
        ("l40s", (421, 517)),
        ("a10g", (465,)),
        ("rtx-5090", (614, 654)),
        ("h200", (670,)),
        ("b200", (612, 712)),
    ],
)
def test_readings_lie_in_the_band(name: str, readings_mib: tuple[int, ...]) -> None:
    context = cuda_context_bytes(find_gpu(name))
    assert context.low_bytes + 15 * MIB <= min(readings_mib) * MIB
    assert max(readings_mib) * MIB <= context.high_bytes - 15 * MIB


@pytest.mark.parametrize(("name", "mib"), [("rtx-3090", 256), ("rtx-6000-ada", 426), ("b200", 612)])
def test_before_a_kernel_it_is_the_bare_context(name: str, mib: int) -> None:
    assert cuda_context_bytes(find_gpu(name)).initial_bytes == mib * MIB


def test_the_best_estimate_is_the_median() -> None:
    assert cuda_context_bytes(find_gpu("rtx-4090")).bytes == 473 * MIB
    assert cuda_context_bytes(find_gpu("a10g")) == cuda_context_bytes(find_gpu("a10"))


def test_it_grows_with_the_card() -> None:
    names = ("t4", "rtx-3090", "rtx-4090", "h100-sxm", "b200")
    figures = [cuda_context_bytes(find_gpu(name)).bytes for name in names]
    assert figures == sorted(figures)


def test_an_unusual_job_moves_the_high_end_of_its_card_alone() -> None:
    """1580 MiB of 2023 on an A100 of 80 GB."""
    seen = cuda_context_bytes(find_gpu("a100-80gb"))
    assert seen.high_bytes == (1580 + 15) * MIB
    assert seen.bytes < 600 * MIB
    assert cuda_context_bytes(custom_gpu(GIB, (8, 0))).high_bytes < 1000 * MIB


def test_a_card_nobody_read_lies_between_its_neighbours() -> None:
    between, below, above = (cuda_context_bytes(find_gpu(name)) for name in ("rtx-4080", "l4", "rtx-4090"))
    assert (between.low_bytes, between.high_bytes) == (below.low_bytes, above.high_bytes)
    assert "l4, rtx-4090" in between.source
    smaller = cuda_context_bytes(find_gpu("rtx-4060"))  # 24 multiprocessors, an L4 has 58
    assert smaller.low_bytes == pytest.approx(below.low_bytes * 24 / 58, abs=MIB)
    assert smaller.high_bytes == below.high_bytes
    assert smaller.bytes == pytest.approx((smaller.low_bytes + smaller.high_bytes) / 2, abs=MIB)


def test_a_custom_card_has_the_band_of_its_capability() -> None:
    custom = cuda_context_bytes(custom_gpu(GIB, (8, 0)))
    cards = [cuda_context_bytes(find_gpu(name)) for name in ("a100-40gb", "a100-80gb")]
    assert custom.low_bytes == min(card.low_bytes for card in cards)
    assert custom.high_bytes < min(card.high_bytes for card in cards)  # what was seen once is not taken over
    assert custom.low_bytes < custom.bytes < custom.high_bytes


def test_unknown_architecture_is_an_error() -> None:
    gpu = find_gpu("a100-80gb").model_copy(
        update={"name": "m40", "architecture": "maxwell", "compute_capability": (5, 2)}
    )
    with pytest.raises(InputError, match=r"no CUDA context is known for maxwell 5\.2; known: turing, pascal"):
        cuda_context_bytes(gpu)


def test_architecture_agrees_with_the_catalogue() -> None:
    for gpu in all_gpus():
        if gpu.compute_capability is not None:
            assert architecture_of(gpu.compute_capability) == gpu.architecture
