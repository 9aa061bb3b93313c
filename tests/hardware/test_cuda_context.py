"""Priors of the CUDA context."""

import pytest

from vramcast.errors import InputError
from vramcast.hardware import GPU, all_gpus, cuda_context_bytes, custom_gpu, find_gpu
from vramcast.hardware.context import architecture_of
from vramcast.units import GIB, MIB


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_every_card_has_a_sourced_band(gpu: GPU) -> None:
    context = cuda_context_bytes(gpu)
    assert 250 * MIB < context.initial_bytes < context.bytes < 700 * MIB
    assert 100 * MIB < context.uncertainty_bytes < context.bytes
    assert "https://" in context.source


@pytest.mark.parametrize(
    ("name", "reading_mib"),
    [("rtx-3090", 256), ("rtx-6000-ada", 426), ("b200", 612)],
)
def test_readings_named_as_sources_lie_in_the_band(name: str, reading_mib: int) -> None:
    context = cuda_context_bytes(find_gpu(name))
    assert abs(context.initial_bytes - reading_mib * MIB) <= context.uncertainty_bytes


def test_data_centre_cards_take_more_than_consumer_cards() -> None:
    consumer, a100, h100 = (cuda_context_bytes(find_gpu(name)).bytes for name in ("rtx-3060-12gb", "a100-80gb", "h100"))
    assert consumer < a100 < h100


def test_first_step_loads_kernels() -> None:
    context = cuda_context_bytes(find_gpu("a100-80gb"))
    assert (context.initial_bytes, context.bytes) == (425 * MIB, 525 * MIB)


def test_custom_gpu_takes_the_figure_of_its_capability() -> None:
    assert cuda_context_bytes(custom_gpu(GIB, (9, 0))) == cuda_context_bytes(find_gpu("h100"))


def test_unknown_architecture_is_an_error() -> None:
    gpu = find_gpu("a100-80gb").model_copy(update={"architecture": "maxwell", "compute_capability": (5, 2)})
    with pytest.raises(InputError, match=r"no CUDA context is known for maxwell 5\.2; known: pascal 6\.0"):
        cuda_context_bytes(gpu)


def test_architecture_agrees_with_the_catalogue() -> None:
    for gpu in all_gpus():
        if gpu.compute_capability is not None:
            assert architecture_of(gpu.compute_capability) == gpu.architecture
